"""The preprocessing that the published code of retrieval gives to models that have one of their own."""

from dataclasses import replace

from jaxalign.dual_encoder import DualEncoder
from jaxalign.models import ImageTowerConfig
from jaxalign.specs import find_spec

WITH_SLIP = ", SLIP's transform"  # behind the name of a model: its features are others
_FIELDS = ("resize", "interpolation", "mean", "std", "resize_size", "pipeline")


def with_slip_transform(model: DualEncoder) -> DualEncoder:
    """`model` for pictures whose shortest side is resized to 224 bilinearly and whose centre is cropped.

    Reevaluating's `dino.py` imports SLIP's transform for DINOv2 and DINOv3.
    """
    slip = find_spec("slip-vit-base-patch16")
    facts = {name: getattr(slip, name) for name in _FIELDS}
    towers, image = model.config, model.config.image
    if isinstance(image, ImageTowerConfig) and not image.learned_positions:  # as large as the pictures are
        towers = replace(towers, image=replace(image, image_size=slip.towers.image.image_size))
    return replace(model, spec=replace(model.spec, name=f"{model.name}{WITH_SLIP}", towers=towers, **facts))
