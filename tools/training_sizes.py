"""Sizes of an embedded model that differ from those of its spec, and the note of them beside a run."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.local_files import read_json
from jaxalign.specs import find_spec
from jaxalign.specs.model_spec import ModelSpec


@dataclass(frozen=True)
class Sizes:
    """What is None is as in the spec.

    Attributes:
      image_heads, text_heads: by default heads as wide as the spec's.
      embedding_width: of both projectors; a model whose image tower has none (emoji-siglip) embeds in
        `image_width`.
    """

    image_width: int | None = None
    image_depth: int | None = None
    image_heads: int | None = None
    text_width: int | None = None
    text_depth: int | None = None
    text_heads: int | None = None
    embedding_width: int | None = None


AS_IN_SPEC = Sizes()
NOTE = "model.json"


def _resized(tower, width: int | None, depth: int | None, heads: int | None):
    """`tower` with another width (MLP in proportion), depth and number of heads."""
    wide = width or tower.width
    head = tower.width // tower.heads
    if heads is None and wide % head:
        raise JaxalignError(
            f"width {wide} is not a multiple of {head}, the width of a head; give the heads, too"
        )
    return dataclasses.replace(
        tower,
        width=wide,
        depth=depth or tower.depth,
        heads=heads or wide // head,
        mlp_hidden=tower.mlp_hidden * wide // tower.width,
    )


def sized(spec: ModelSpec, sizes: Sizes, vocabulary: int) -> ModelSpec:
    """`spec` with `sizes` and a vocabulary of so many words."""
    given = {name: size for name, size in dataclasses.asdict(sizes).items() if size is not None}
    wrong = [f"{name} = {size}" for name, size in given.items() if size < 1]
    if wrong:
        raise JaxalignError(f"{', '.join(wrong)}; expected sizes of 1 or more")
    towers = spec.towers
    image = _resized(towers.image, sizes.image_width, sizes.image_depth, sizes.image_heads)
    if image.projection is not None:
        image = dataclasses.replace(image, projection=sizes.embedding_width or image.projection)
    elif sizes.embedding_width not in (None, image.width):
        raise JaxalignError(
            f"{spec.name} has no linear image projector: its embeddings are as wide as its image tower, "
            f"{image.width}, not {sizes.embedding_width}; give image-width"
        )
    text = _resized(towers.text, sizes.text_width, sizes.text_depth, sizes.text_heads)
    text = dataclasses.replace(text, projection=image.embedding_width, vocabulary=vocabulary)
    return dataclasses.replace(spec, towers=dataclasses.replace(towers, image=image, text=text))


def keep_to_sizes(state: Path, name: str, sizes: Sizes, vocabulary: int) -> None:
    """Note in the folder `state` which model is trained there; refuse another one than was noted."""
    own = {"name": name, "vocabulary": vocabulary, "sizes": dataclasses.asdict(sizes)}
    note = state / NOTE
    if not note.exists():
        note.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
    if (noted := read_json(note)) != own:
        raise JaxalignError(
            f"the run in {state} is of another model: {json.dumps(noted)}; "
            "give its name and sizes, or another folder"
        )


def noted_spec(state: Path, name: str) -> ModelSpec:
    """The spec of the model `name` that was trained in the folder `state`."""
    noted = read_json(state / NOTE)
    if noted["name"] != name:
        raise JaxalignError(f"the run in {state} is of {noted['name']}, not of {name}; give that name")
    return sized(find_spec(name), Sizes(**noted["sizes"]), noted["vocabulary"])
