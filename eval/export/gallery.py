"""A method's unit embeddings of a split, a few thousand at a time: memory grows with the split only by the
features of one's own images. As a `.npy` file NumPy maps them into memory, and ScaNN takes them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib import format as npy

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.features import FeatureStore, Gathered, image_store, text_store
from jaxalign.eval.features.key import weights_digest
from jaxalign.eval.files import json_text
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
from jaxalign.replacing import replaced_folder

ROWS = 8192  # embedded together: 24 MiB of float32 at width 768
EMBEDDINGS, IDS, FACTS = "embeddings.npy", "ids.jsonl", "export.json"
DTYPES = ("float32", "float16")
Stored = FeatureStore | Gathered


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
        block = np.concatenate([store.read_chunk(number) for number in numbers])
        yield block.astype(np.float32, copy=False)  # given ones may be of another type


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
        store = Gathered(workspace.images(model, examples).pre, examples.ids)
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


def write_npy(
    folder: Path,
    gallery: Gallery,
    *,
    dtype: str = "float32",
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Write `embeddings.npy` `[n, d]`, `ids.jsonl` (a JSON string on a line for each row) and `export.json`.

    The folder is there when it is whole; an earlier export in its place is replaced then.

    Args:
      dtype: "float32", or "float16" for half the size.
      advance: is told how many more rows are written.

    Returns:
      The content of `export.json`.

    Raises:
      JaxalignError: another dtype, or a folder with anything but an earlier export in it.
    """
    if dtype not in DTYPES:
        raise JaxalignError(f"dtype is {dtype}; expected float32 or float16")
    check_npy_folder(folder)
    facts = gallery.facts | export_facts(gallery) | {"dtype": dtype}
    with replaced_folder(folder) as partial:
        # Written in order, not through a memory map: a full disk is then an error, not the process's end.
        with open(partial / EMBEDDINGS, "wb") as file:
            header = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False}
            npy.write_array_header_1_0(file, header | {"shape": gallery.shape})
            for block in gallery.blocks():
                file.write(np.ascontiguousarray(block, np.dtype(dtype).newbyteorder("<")).data)
                advance(len(block))
        write_ids(partial / IDS, gallery.ids)
        write_facts(partial / FACTS, facts)
    return facts


def check_npy_folder(folder: Path) -> None:
    """Raise JaxalignError for a place with anything in it that is not an earlier export."""
    if folder.exists() and not folder.is_dir():
        raise JaxalignError(f"cannot write the folder {folder}: it is a file; choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS).is_file():
        raise JaxalignError(
            f"the folder {folder} is not empty and no earlier export; choose another one, or empty it"
        )


def write_ids(file: Path, ids: Iterable[str]) -> None:
    """One JSON string on each line: ids may contain anything."""
    with open(file, "w", encoding="utf-8") as out:
        out.writelines(json_text(name) + "\n" for name in ids)


def write_facts(file: Path, facts: dict[str, Any]) -> None:
    file.write_text(json_text(facts, indent=2) + "\n", encoding="utf-8")


def export_facts(gallery: Gallery) -> dict[str, Any]:
    """Numbers of a gallery."""
    rows, width = gallery.shape
    return {"rows": rows, "width": width, "left_out": gallery.store.rows - rows, "normalized": True}
