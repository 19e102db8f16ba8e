"""A gallery as a FAISS index: exact, or one that gives up some recall for speed and memory."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.replacing import replaced_files

from .gallery import Gallery, export_facts, write_facts, write_ids

EXACT = "Flat"
_PER_CENTROID = 256  # training vectors: FAISS's own k-means takes no more than that
_CENTROIDS = 256  # of a product quantiser of 8 bits, which has no list of its own
# FAISS divides by these without looking; IVF0 loses every vector.
_ENDS_THE_PROCESS = re.compile(r"(?<!\d)0+(?!\d)|HNSW0*1(?!\d)")


def write_faiss(
    file: Path,
    gallery: Gallery,
    *,
    factory: str = EXACT,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Write an inner-product index of the embeddings, with `FILE.ids.jsonl` and `FILE.json` beside it.

    Row i of the index is line i of the ids. The index is built in memory, as FAISS does it: exact ("Flat"),
    that is all embeddings in float32; compressed, their codes and a sample for training.

    Args:
      factory: "Flat", or what `faiss.index_factory` takes, such as "IVF1024,PQ32" or "HNSW32".
      seed: of the sample that an index with a training is trained on: 256 rows for each centroid.
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
        sample = sample_rows(gallery, _training_rows(faiss, index), seed)
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


def sample_rows(gallery: Gallery, count: int, seed: int) -> np.ndarray:
    """At most `count` embeddings drawn without replacement, float32, in their order."""
    rows = gallery.shape[0]
    chosen = np.zeros(rows, bool)
    chosen[np.random.default_rng(seed).choice(rows, min(count, rows), replace=False)] = True
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
