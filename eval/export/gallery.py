"""A method's unit embeddings of a split, a few thousand at a time: memory grows with the split only by
the features of one's own images."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.features import FeatureStore, Gathered, image_store, text_store
from jaxalign.eval.features.key import weights_digest
from jaxalign.eval.tasks.given import GivenFeatures, check_needs
from jaxalign.eval.tasks.methods import (
    BASELINES,
    Embed,
    Method,
    MethodOptions,
    Modality,
    find_method,
    subspace_of,
)
from jaxalign.eval.tasks.pairs import CaptionPair
from jaxalign.eval.tasks.projecting import Fitting
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.features import normalize

ROWS = 8192  # embedded together: 24 MiB of float32 at width 768


@dataclass(frozen=True, eq=False)
class GivenRows:
    """Features that are there already, as `FeatureStore` has its own."""

    values: np.ndarray
    ids: tuple[str, ...]
    chunk: int = ROWS

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        return self.values.shape[1]

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.chunk)

    def read_chunk(self, number: int) -> np.ndarray:
        return self.values[number * self.chunk : (number + 1) * self.chunk].astype(np.float32)


Stored = FeatureStore | Gathered | GivenRows


@dataclass(frozen=True, eq=False)
class Gallery:
    """Embeddings of length one, in the order of the store.

    Attributes:
      store: pre-projection features, all of them computed.
      embed: the method.
      facts: what the embeddings are, for the files beside them.
    """

    store: Stored
    embed: Embed
    facts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def readable(self) -> np.ndarray:
        """Bool `[rows]`: which examples have features; the others were left out as unreadable."""
        found = [~np.isnan(x).any(axis=1) for x in features(self.store)]
        return np.concatenate(found)

    @property
    def ids(self) -> Iterator[str]:
        """Of the embeddings, in their order."""
        return (self.store.ids[i] for i in np.flatnonzero(self.readable))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and width of the embeddings."""
        pre = jax.ShapeDtypeStruct((1, self.store.width), jnp.float32)
        return int(self.readable.sum()), jax.eval_shape(self.embed, pre).shape[1]

    def blocks(self) -> Iterator[np.ndarray]:
        """The embeddings float32 `[n, d]`, in blocks; a row of zeros stays zero."""
        start = 0
        for pre in features(self.store):
            readable = self.readable[start : start + len(pre)]
            start += len(pre)
            yield np.asarray(normalize(self.embed(pre)))[readable]


def features(store: Stored) -> Iterator[np.ndarray]:
    """The stored features, `[about ROWS, width]` at a time."""
    step = max(ROWS // store.chunk, 1)
    for first in range(0, store.chunks, step):
        numbers = range(first, min(first + step, store.chunks))
        yield np.concatenate([store.read_chunk(number) for number in numbers])


def open_gallery(
    workspace: Workspace,
    model: DualEncoder,
    dataset: str,
    split: str = "",
    *,
    method: str = "",
    modality: Modality = "image",
    options: MethodOptions | None = None,
) -> Gallery:
    """The embeddings of a split's images or captions; what the feature store lacks is computed first.

    Args:
      split: by default the gallery of the data set's protocol.
      method: of `jaxalign.eval.tasks.methods.METHODS`; by default the embeddings as they are.

    Raises:
      JaxalignError: as `find_method` and `image_features`, or a method that optimises each query.
    """
    chosen = find_method(method or BASELINES[modality], model, modality, options or MethodOptions())
    if chosen.inverts:
        raise JaxalignError(
            f"{chosen.name} inverts queries and leaves the gallery as it is; export {BASELINES[modality]}"
        )
    store: Stored
    record = workspace.find_dataset(dataset)
    if isinstance(model, GivenFeatures):
        examples = workspace.load_split(record, split or record.gallery)
        store = GivenRows(workspace.images(model, examples).pre, examples.ids)
    elif modality == "text":
        pair = CaptionPair(workspace, model, dataset, split)
        examples, captions = pair.examples, pair.captions
        title = f"{model.name}: {pair.name}, {len(captions.texts)} texts"
        with workspace.computing(title, len(captions.texts)) as computing:
            store = text_store(model, pair.name, captions.ids, captions.texts, **computing)
    else:
        examples = workspace.load_split(record, split or record.gallery or record.test)
        check_needs(model, examples.dataset, ("towers",))
        title = f"{model.name}: {examples.origin}, {len(examples)} images"
        with workspace.computing(title, len(examples)) as computing:
            store = image_store(model, examples, **computing)
    facts = {
        "model": model.name,
        "source": model.spec.source,
        "weights": weights_digest(model.params),
        "dataset": examples.dataset,
        "version": examples.state,
        "split": examples.split,
        "modality": modality,
    }
    gallery = Gallery(store, _fit(workspace, model, chosen, store), facts | chosen.to_json())
    if not gallery.shape[0]:
        raise JaxalignError(
            f"none of the {store.rows} examples of {examples.origin} can be read; expected at least one"
        )
    return gallery


def _fit(workspace: Workspace, model: DualEncoder, method: Method, store: Stored) -> Embed:
    fitting = Fitting(workspace, model, lambda: np.empty((0, 0)))
    if method.name != "pca-mean":
        return fitting.embed(method)
    subspace = subspace_of(method, fitting.subspace_texts(method))
    baseline = Method(BASELINES[method.modality], method.modality).fit(model)
    unit = lambda pre: normalize(baseline(pre))
    mean = _mean(store, unit)
    return lambda pre: subspace.project(unit(pre), mean)


def _mean(store: Stored, embed: Embed) -> np.ndarray:
    """Of the embeddings, float32 `[d]`."""
    total, count = np.zeros(()), 0
    for pre in features(store):
        x = np.asarray(embed(pre), np.float64)
        x = x[~np.isnan(pre).any(axis=1)]
        total, count = total + x.sum(axis=0), count + len(x)
    return np.asarray(total / max(count, 1), np.float32)
