"""Features of images or of texts, out of the store; what it lacks is computed first. There is no other way.

Those of a data set have a store of their own for each split; those of one's own images are in one index, by
what each image is, so that all commands and folders share them.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Unpack

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import Examples
from jaxalign.eval.datasets.folder_images import FolderImages

from .by_content import Gathered, gather
from .embed import Computing, embed_images, embed_texts
from .key import make_key
from .store import Features, FeatureStore, Place


def image_store(
    model: DualEncoder, examples: Examples, **computing: Unpack[Computing]
) -> FeatureStore | Gathered:
    """Pre-projection features `[n, d_image]` of a split's images, all computed, in float32.

    Raises:
      JaxalignError: captions without images, an unreadable image, or a store that cannot be used.
    """
    require_images(examples)
    if isinstance(examples.images, FolderImages):
        return gather(model, examples.images, examples.origin, examples.labels, **computing)
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


def text_features(
    model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str], **computing: Unpack[Computing]
) -> Features:
    """Pre-projection features `[n, d_text]` of texts, in float32; as `text_store`."""
    return text_store(model, name, ids, texts, **computing).read()


def text_store(
    model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str], **computing: Unpack[Computing]
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
    found = FeatureStore.open(computing.get("store"), key, ids, {}, text.width)
    embed_texts(model, texts, found, **computing)
    return found
