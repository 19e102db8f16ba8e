"""Galleries for other programs: a method's unit embeddings of a split as a NumPy file or a FAISS index.

They are made a few thousand at a time: memory grows with the split only by the features of one's own images,
and by what FAISS keeps. NumPy maps the `.npy` file into memory, and ScaNN takes it as it is; an index is
exact, or one that gives up some recall for speed and memory.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib import format as npy

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.features import FeatureStore, Gathered
from jaxalign.eval.features.key import weights_digest
from jaxalign.eval.files import json_text
from jaxalign.eval.tasks.given import GivenFeatures
from jaxalign.eval.tasks.methods import BASELINES, Method, MethodOptions, Modality, find_method, subspace_of
from jaxalign.eval.tasks.own_methods import Embed
from jaxalign.eval.tasks.pairs import CaptionPair
from jaxalign.eval.tasks.projecting import Fitting
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.features import normalize
from jaxalign.replacing import replaced_files, replaced_folder

ROWS = 8192  # embedded together: 24 MiB of float32 at width 768
EMBEDDINGS, IDS, FACTS = "embeddings.npy", "ids.jsonl", "export.json"
DTYPES = ("float32", "float16")
Stored = FeatureStore | Gathered
EXACT = "Flat"
_PER_CENTROID = 256  # training vectors: FAISS's own k-means takes no more than that
_CENTROIDS = 256  # of a product quantiser of 8 bits, which has no list of its own
# FAISS divides by these without looking; IVF0 loses every vector.
_ENDS_THE_PROCESS = re.compile(r"(?<!\d)0+(?!\d)|HNSW0*1(?!\d)")


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
        store = workspace.text_store(model, pair.name, captions.ids, captions.texts)
    else:
        examples = workspace.load_split(record, split or record.gallery or record.test)
        store = workspace.image_store(model, examples)
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


def write_faiss(
    file: Path,
    gallery: Gallery,
    *,
    factory: str = EXACT,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Write an inner-product index of the embeddings, with `FILE.ids.jsonl` and `FILE.json` beside it.

    Row i of the index is line i of the ids. The index is built in memory, as FAISS does it: exact ("Flat"),
    that is all embeddings in float32; compressed, their codes and a sample for training.

    Args:
      factory: "Flat", or what `faiss.index_factory` takes, such as "IVF1024,PQ32" or "HNSW32".
      advance: is told how many more rows are added.

    Returns:
      The content of `FILE.json`.

    Raises:
      JaxalignError: FAISS is not installed, a factory string that it does not know or that does not fit the
        embeddings, fewer embeddings than centroids, or a file that cannot be written.
    """
    faiss = require_faiss()
    index = build_index(faiss, gallery.shape[1], factory)
    if not index.is_trained:
        sample = sample_rows(gallery, _training_rows(faiss, index))
        _call(index.train, sample, doing=f"train {factory!r} on {len(sample)} embeddings")
    for block in gallery.blocks():
        _call(index.add, np.ascontiguousarray(block), doing=f"add embeddings to {factory!r}")
        advance(len(block))
    facts = gallery.facts | export_facts(gallery) | {"index": factory, "metric": "inner product"}
    beside = [file.with_name(file.name + end) for end in (".ids.jsonl", ".json")]
    with replaced_files(*beside, file) as (ids, about, content):  # the index last: what has one is whole
        write_ids(ids, gallery.ids)
        write_facts(about, facts)
        _call(faiss.write_index, index, str(content), doing=f"write {file}")
    return facts


def require_faiss() -> ModuleType:
    """The module; raises JaxalignError, naming the extra, where it is not installed."""
    try:
        with warnings.catch_warnings():  # of types that SWIG makes, which is not for us to mend
            warnings.filterwarnings("ignore", "builtin type", DeprecationWarning)
            import faiss
    except ImportError as error:
        raise JaxalignError("FAISS is not installed; pip install 'jaxalign[index]'") from error
    return faiss


def build_index(faiss: ModuleType, width: int, factory: str) -> Any:
    """An empty index of `width` for cosine similarity of unit embeddings."""
    if factory == EXACT:
        return faiss.IndexFlatIP(width)
    advice = f"make the index {factory!r} of embeddings {width} wide"
    if _ENDS_THE_PROCESS.search(factory):
        raise _refused(advice, "its numbers are 1 or more, and HNSW's 2 or more")
    return _call(faiss.index_factory, width, factory, faiss.METRIC_INNER_PRODUCT, doing=advice)


def sample_rows(gallery: Gallery, count: int) -> np.ndarray:
    """At most `count` embeddings drawn without replacement, float32, in their order; always the same ones."""
    rows = gallery.shape[0]
    chosen = np.zeros(rows, bool)
    chosen[np.random.default_rng(0).choice(rows, min(count, rows), replace=False)] = True
    parts, start = [], 0
    for block in gallery.blocks():
        parts.append(block[chosen[start : start + len(block)]])
        start += len(block)
    return np.concatenate(parts)


def _training_rows(faiss: ModuleType, index: Any) -> int:
    try:
        lists = faiss.extract_index_ivf(index).nlist
    except RuntimeError:  # it has none
        lists = 0
    return _PER_CENTROID * max(lists, _CENTROIDS)


def _call(function: Callable[..., Any], *arguments: Any, doing: str) -> Any:
    """What a function of FAISS returns; its exceptions become one line."""
    try:
        return function(*arguments)
    except (RuntimeError, MemoryError, TypeError) as error:  # TypeError: a string that is no text
        reason = str(error).splitlines()[0].rsplit(": ", 1)[-1].rstrip(".")
        raise _refused(doing, reason) from error


def _refused(doing: str, reason: str) -> JaxalignError:
    return JaxalignError(
        f"FAISS cannot {doing} ({reason}); try --faiss-index Flat, which is exact and always fits, or one of"
        " its factory strings, such as HNSW32 or IVF1024,PQ32"
    )
