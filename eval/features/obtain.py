"""Features of a data set's pictures or of texts, out of the store; what it lacks is computed first."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import Examples

from .embed import BATCH, THREADS, Unreadable, embed_images, embed_texts
from .key import make_key
from .store import Features, FeatureStore

Progress = Callable[[int], None]


def default_store() -> Path:
    """`$JAXALIGN_STORE`, or a folder in the user's cache."""
    given = os.environ.get("JAXALIGN_STORE")
    return Path(given) if given else Path.home() / ".cache" / "jaxalign" / "features"


def image_features(
    model: DualEncoder,
    examples: Examples,
    *,
    store: str | os.PathLike | None = None,
    unreadable: Unreadable = "fail",
    batch_size: int = BATCH,
    threads: int = THREADS,
    progress: Progress = lambda count: None,
) -> Features:
    """Pre-projection features `[n, d_image]` of a split's pictures, in float32.

    Args:
      store: folder or URL of the feature stores; `default_store()` by default.
      unreadable: whether a picture that cannot be read stops the run or is left out (`Features.left_out`);
        `embed_images` says which ones.
      progress: is told how many examples are done, those of earlier runs first.

    Raises:
      JaxalignError: captions without pictures, an unreadable picture, no readable one, or a store that cannot
        be used.
    """
    found = image_store(
        model,
        examples,
        store=store,
        unreadable=unreadable,
        batch_size=batch_size,
        threads=threads,
        progress=progress,
    )
    features = found.read()
    if not features.ids:
        raise JaxalignError(
            f"none of the {len(examples)} pictures of {examples.dataset}/{examples.split} can be read,"
            f" {features.left_out[0]} for one; expected at least one"
        )
    return features


def image_store(
    model: DualEncoder,
    examples: Examples,
    *,
    store: str | os.PathLike | None = None,
    unreadable: Unreadable = "fail",
    batch_size: int = BATCH,
    threads: int = THREADS,
    progress: Progress = lambda count: None,
) -> FeatureStore:
    """The store of `image_features`, filled: for splits that are read in parts."""
    if examples.images is None:
        raise JaxalignError(f"{examples.dataset} has captions only; expected a data set with pictures")
    key = make_key(model, examples.dataset, examples.state, examples.split, "image")
    root = default_store() if store is None else store
    width = model.config.image.width
    found = FeatureStore.open(root, key, examples.ids, dict(examples.labels), width)
    embed_images(
        model,
        examples.images,
        found,
        unreadable=unreadable,
        batch_size=batch_size,
        threads=threads,
        advance=progress,
    )
    return found


def text_features(
    model: DualEncoder,
    name: str,
    ids: Sequence[str],
    texts: Sequence[str],
    *,
    store: str | os.PathLike | None = None,
    batch_size: int = BATCH,
    progress: Progress = lambda count: None,
) -> Features:
    """Pre-projection features `[n, d_text]` of texts, in float32.

    Args:
      name: what the texts are, for people: `class names of dtd`. Their content is part of the key.
      ids: of the texts, each once; part of the key, too.

    Raises:
      JaxalignError: a model without text tower or tokenizer, or a store that cannot be used.
    """
    return text_store(model, name, ids, texts, store=store, batch_size=batch_size, progress=progress).read()


def text_store(
    model: DualEncoder,
    name: str,
    ids: Sequence[str],
    texts: Sequence[str],
    *,
    store: str | os.PathLike | None = None,
    batch_size: int = BATCH,
    progress: Progress = lambda count: None,
) -> FeatureStore:
    """The store of `text_features`, filled."""
    text = model.config.text
    if text is None:
        raise JaxalignError(f"{model.name} has no text tower; expected a model that embeds texts")
    if len(ids) != len(texts):
        raise JaxalignError(f"{len(ids)} ids for {len(texts)} texts of {name}; expected one for each")
    digest = hashlib.sha256(json.dumps([list(ids), list(texts)]).encode()).hexdigest()
    key = make_key(model, name, digest, "texts", "text")
    found = FeatureStore.open(default_store() if store is None else store, key, ids, {}, text.width)
    embed_texts(model, texts, found, batch_size=batch_size, advance=progress)
    return found
