"""Features of images or of texts, out of the store; what it lacks is computed first. There is no other way.

Those of a data set have a store of their own for each split; those of one's own images are in one index, by
what each image is, so that all commands and folders share them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import Examples
from jaxalign.eval.datasets.images import FolderImages
from jaxalign.inputs.image_files import check_depth
from jaxalign.inputs.resampling import resize_part

from .by_content import Gathered, gather
from .embed import Computing, embed_images, embed_texts, open_image
from .key import make_key
from .store import Features, FeatureStore, Place

SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)
SCALES = {"imagenet": (0.08, 1.0)}  # for which the published codes have a data loader of its own
_TRIES = 10


def image_store(
    model: DualEncoder, examples: Examples, **computing: Unpack[Computing]
) -> FeatureStore | Gathered:
    """Pre-projection features `[n, d_image]` of a split's images, all computed, in float32. Raises
    JaxalignError for captions without images, an unreadable image, or a store that cannot be used."""
    require_images(examples)
    if isinstance(examples.images, FolderImages):
        return gather(model, examples.images, examples.origin, **computing)
    key = make_key(model, examples.dataset, examples.state, examples.split, "image")
    width = model.config.image.width
    found = FeatureStore.open(computing.get("store"), key, examples.ids, examples.labels, width)
    embed_images(model, examples.images, found, **computing)
    return found


def image_features(model: DualEncoder, examples: Examples, **computing: Unpack[Computing]) -> Features:
    """The features in `image_store`; raises JaxalignError where no image could be read, too."""
    return image_store(model, examples, **computing).read().require(examples.origin)


def are_stored(model: DualEncoder, examples: Examples, store: Place) -> bool:
    """Whether the features of a whole split are there; of one's own images, each of which is found alone, the
    answer is no."""
    if isinstance(examples.images, FolderImages):
        return False
    key = make_key(model, examples.dataset, examples.state, examples.split, "image")
    found = FeatureStore.find(store, key)
    return found is not None and not found.missing()


def require_images(examples: Examples) -> None:
    """Raise for captions without images, and for features in their place."""
    if examples.features is not None:
        raise JaxalignError(f"{examples.dataset} is features already; expected a data set of images")
    if examples.images is None:
        raise JaxalignError(f"{examples.dataset} has captions only; expected a data set with images")


def text_store(
    model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str], **computing: Unpack[Computing]
) -> FeatureStore:
    """Pre-projection features `[n, d_text]` of texts, all computed, in float32.

    Args:
      name: what the texts are, for people: `class names of dtd`. Their content is part of the key.
      ids: of the texts, each once; part of the key, too.

    Raises:
      JaxalignError: a model without text tower or tokenizer, or a store that cannot be used.
    """
    text = model.config.text
    if text is None:
        raise JaxalignError(f"{model.name} has no text tower; expected a model that embeds texts")
    if len(ids) != len(texts):
        raise JaxalignError(f"{len(ids)} ids for {len(texts)} texts of {name}; expected one for each")
    digest = hashlib.sha256(json.dumps([list(ids), list(texts)]).encode()).hexdigest()
    key = make_key(model, name, digest, "texts", "text")
    found = FeatureStore.open(computing.get("store"), key, ids, {}, text.width)
    embed_texts(model, texts, found, **computing)
    return found


@dataclass(frozen=True, eq=False)
class Augmented:
    """Images of `examples`, each cropped and flipped at random by its own generator, `size` x `size`
    pixels, RGB.

    So the published few-shot code takes its training features (Reevaluating, section 4.3, and the
    training-free methods before it). What becomes of an image depends on the seed and its id alone.
    """

    examples: Examples
    size: int
    seed: int
    scale: tuple[float, float] = SCALE

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
