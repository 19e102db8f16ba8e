"""Features of images or of texts, out of the store; what it lacks is computed first. There is no other way.

Tasks, the export and `jaxalign embed` ask for the images of a split, few-shot methods for the training images
that are drawn, a search for the images of a folder: all of it is `filled_store` of some key.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import Examples

from .embed import BATCH, THREADS, Images, Unreadable, embed_images, embed_texts
from .key import FeatureKey, make_key
from .store import Features, FeatureStore

Progress = Callable[[int], None]
Place = str | os.PathLike | None


class Storing(TypedDict, total=False):
    """Where features are, and how those that are not there are computed; see `filled_store`."""

    store: Place
    batch_size: int
    progress: Progress


class Computing(Storing, total=False):
    """The same for images."""

    unreadable: Unreadable
    threads: int


def default_store() -> Path:
    """`$JAXALIGN_STORE`, or a folder in the user's cache."""
    given = os.environ.get("JAXALIGN_STORE")
    return Path(given) if given else Path.home() / ".cache" / "jaxalign" / "features"


def filled_store(
    model: DualEncoder,
    images: Images,
    key: FeatureKey,
    ids: Sequence[str],
    labels: Mapping[str, np.ndarray],
    *,
    names: Sequence[str] | None = None,
    store: Place = None,
    unreadable: Unreadable = "fail",
    batch_size: int = BATCH,
    threads: int = THREADS,
    progress: Progress = lambda count: None,
) -> FeatureStore:
    """The store of `key`, in which nothing is missing.

    Args:
      images: n of them, read when they are asked for.
      ids: of the images, each once.
      labels: int `[n]` by name.
      names: what messages call the images; by default the ids.
      store: folder or URL of the feature stores; `default_store()` by default.
      unreadable: whether an image that cannot be read stops the run or is left out (`Features.left_out`);
        `embed_images` says which ones.
      batch_size: images that pass through the tower together, on each device.
      threads: that read, decode and resize.
      progress: is told how many examples are done, those of earlier runs first.

    Raises:
      JaxalignError: an unreadable image, or a store that cannot be used.
    """
    found = FeatureStore.open(place_of(store), key, ids, dict(labels), model.config.image.width)
    embed_images(
        model,
        images,
        found,
        names=names,
        unreadable=unreadable,
        batch_size=batch_size,
        threads=threads,
        advance=progress,
    )
    return found


def place_of(store: Place) -> str | os.PathLike:
    """`store`, or the default one."""
    return default_store() if store is None else store


def image_store(model: DualEncoder, examples: Examples, **computing: Unpack[Computing]) -> FeatureStore:
    """The filled store of a split's images, for what is read in parts; raises as `image_features`."""
    require_images(examples)
    key = make_key(model, examples.dataset, examples.state, examples.split, "image")
    return filled_store(model, examples.images, key, examples.ids, examples.labels, **computing)


def image_features(model: DualEncoder, examples: Examples, **computing: Unpack[Computing]) -> Features:
    """Pre-projection features `[n, d_image]` of a split's images, in float32.

    Args:
      computing: as for `filled_store`.

    Raises:
      JaxalignError: captions without images, an unreadable image, no readable one, or a store that cannot
        be used.
    """
    return read_images(image_store(model, examples, **computing), examples)


def read_images(store: FeatureStore, examples: Examples) -> Features:
    """What a filled store of `examples` holds; raises JaxalignError where no image could be read."""
    features = store.read()
    if not features.ids:
        raise JaxalignError(
            f"none of the {len(examples)} images of {examples.origin} can be read,"
            f" {features.left_out[0]} for one; expected at least one"
        )
    return features


def require_images(examples: Examples) -> None:
    """Raise for captions without images, and for features in their place."""
    if examples.features is not None:
        raise JaxalignError(f"{examples.dataset} is features already; expected a data set of images")
    if examples.images is None:
        raise JaxalignError(f"{examples.dataset} has captions only; expected a data set with images")


def text_features(
    model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str], **storing: Unpack[Storing]
) -> Features:
    """Pre-projection features `[n, d_text]` of texts, in float32; as `text_store`."""
    return text_store(model, name, ids, texts, **storing).read()


def text_store(
    model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str], **storing: Unpack[Storing]
) -> FeatureStore:
    """The filled store of texts.

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
    found = FeatureStore.open(place_of(storing.get("store")), key, ids, {}, text.width)
    advance = storing.get("progress", lambda count: None)
    embed_texts(model, texts, found, batch_size=storing.get("batch_size", BATCH), advance=advance)
    return found
