"""One record for each known checkpoint, and its form on disk as JSON."""

from jaxalign.errors import unknown_name

from . import clip, dino, siglip
from .embedded import EMOJI_CLIP, EMOJI_SIGLIP
from .model_spec import ModelSpec as ModelSpec
from .serialization import spec_from_json as spec_from_json
from .serialization import spec_to_json as spec_to_json

MODELS: dict[str, ModelSpec] = {
    spec.name: spec for spec in (EMOJI_CLIP, EMOJI_SIGLIP, *clip.SPECS, *siglip.SPECS, *dino.SPECS)
}


def find_spec(name: str) -> ModelSpec:
    """The record whose name, hub id or alias is `name`, in any case.

    Raises JaxalignError with the nearest names for one that is in no record.

    Examples:
      >>> import jaxalign as ja
      >>> ja.find_spec("openai/clip-vit-base-patch16").band
      (200, 50)
    """
    wanted = name.casefold()
    for spec in MODELS.values():
        if wanted in map(str.casefold, (spec.name, *spec.hub_ids, *spec.aliases)):
            return spec
    known = {other for spec in MODELS.values() for other in (spec.name, *spec.hub_ids)}
    raise unknown_name("model", name, known, hint="(`jaxalign models` lists them)")
