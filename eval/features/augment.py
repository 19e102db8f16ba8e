"""Training images as few-shot code sees them: one random crop and flip of each, instead of the test
preprocessing.

The published few-shot code (Reevaluating, section 4.3, and the training-free methods before it) takes its
training features so. Only the examples that are drawn are embedded.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.eval.datasets import Examples
from jaxalign.eval.datasets.folder_images import FolderImages
from jaxalign.inputs.image_files import check_depth
from jaxalign.inputs.resampling import resize_part

from .embed import Computing, embed_images, open_image
from .key import make_key
from .obtain import image_store, require_images
from .store import Features, FeatureStore

SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)
SCALES = {"imagenet": (0.08, 1.0)}  # for which the published codes have a data loader of its own
_TRIES = 10


@dataclass(frozen=True, eq=False)
class Augmented:
    """Images of `examples`, each cropped and flipped at random by its own generator, `size` x `size`
    pixels, RGB.

    What becomes of an image depends on the seed and its id alone.
    """

    examples: Examples
    size: int
    seed: int
    scale: tuple[float, float] = SCALE

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int, /) -> Any:
        from PIL import Image

        name = hashlib.sha256(f"{self.seed} {self.examples.ids[index]}".encode()).digest()
        with open_image(self.examples.images, index) as image:
            if isinstance(image, np.ndarray):
                image = Image.fromarray(image)
            check_depth(image, self.examples.ids[index])  # converted to RGB it would look like any other
            return augment(image.convert("RGB"), self.size, np.random.default_rng(list(name)), self.scale)


def augment(image: Any, size: int, rng: np.random.Generator, scale: tuple[float, float] = SCALE) -> Any:
    """A crop of some share of the area, sides 3:4 to 4:3, resized bicubically; half of them flipped."""
    from PIL import Image

    box = random_box(image.width, image.height, rng, scale)
    cropped = resize_part(image.crop(box), (size, size), (0, 0, size, size), "bicubic")
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cropped


def random_box(
    width: int, height: int, rng: np.random.Generator, scale: tuple[float, float] = SCALE
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom; the largest centred box of an allowed shape where ten tries do not fit."""
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*scale)
        ratio = np.exp(rng.uniform(np.log(RATIO[0]), np.log(RATIO[1])))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def subset_features(
    model: DualEncoder,
    examples: Examples,
    rows: np.ndarray,
    *,
    augmentation: int | None = None,
    **computing: Unpack[Computing],
) -> Features:
    """Pre-projection features `[m, d_image]` of the examples at `rows` alone, out of a store of their own.

    Args:
      rows: int `[m]`, positions in `examples`.
      augmentation: seed of the random crops and flips; None for the model's own preprocessing. Crops are of
        50 to 100 % of an image's area, of ImageNet 8 to 100 %.
      computing: as for `image_store`.

    Raises:
      JaxalignError: captions without images, an unreadable image, or a store that cannot be used.
    """
    require_images(examples)
    chosen = examples.select(rows)
    if augmentation is None and isinstance(chosen.images, FolderImages):
        return image_store(model, chosen, **computing).read()
    options: dict[str, Any] = {"rows": hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest()}
    images: Any = chosen.images
    embedding = model
    if augmentation is not None:
        scale = SCALES.get(examples.dataset, SCALE)
        crop = [*scale, *RATIO, "bicubic"]
        options["augmentation"] = {"crop": crop, "flip": 0.5, "seed": augmentation}
        images = Augmented(chosen, model.config.image.image_size, augmentation, scale)
        # The crop has its size already.
        embedding = replace(model, spec=replace(model.spec, resize_size=None))
    key = make_key(model, examples.dataset, examples.state, examples.split, "image", options=options)
    found = FeatureStore.open(
        computing.get("store"), key, chosen.ids, chosen.labels, model.config.image.width
    )
    embed_images(embedding, images, found, **computing)
    return found.read()
