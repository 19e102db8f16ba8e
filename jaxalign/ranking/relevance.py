"""Which gallery items are a query's positives, and which leave its gallery: labels, tables or lists."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError


class Relevance(NamedTuple):
    """Positives by table or by codes, and what is ignored: itself, junk.

    A table is bool `[q, g]`, or int32 `[q, m]`: gallery positions, filled up with g.
    """

    table: Any = None  # or None, and then codes:
    query_codes: Any = None  # int [q]
    gallery_codes: Any = None  # int [g]
    ignored: Any = None  # a table, or None
    self_index: Any = None  # int [q]: the gallery position of the query itself, -1 for none; or None

    def rows(self, index: Any, gallery_size: int) -> tuple[Any, Any]:
        """`(relevant, ignored)`, bool `[b, g]`, of the queries at `index`; None when nothing is ignored."""
        if self.table is not None:
            relevant = _table_rows(self.table, index, gallery_size)
        else:
            relevant = self.query_codes[index][:, None] == self.gallery_codes[None, :]
        ignored = None if self.ignored is None else _table_rows(self.ignored, index, gallery_size)
        if self.self_index is not None:
            is_self = self.self_index[index][:, None] == np.arange(gallery_size, dtype=np.int32)[None, :]
            ignored = is_self if ignored is None else ignored | is_self
        return (relevant if ignored is None else relevant & ~ignored), ignored


def relevance_from_labels(
    query: jax.Array,
    gallery: jax.Array,
    query_labels: Any,
    gallery_labels: Any,
    exclude_self: bool | ArrayLike,
    ignore: Any = None,
) -> Relevance:
    """Relevance by equal label, labels of either kind turned into int32 codes."""
    first = _check_labels("query_labels", query_labels, query.shape[0])
    second = _check_labels("gallery_labels", gallery_labels, gallery.shape[0])
    if first.dtype.kind != second.dtype.kind:
        raise JaxalignError(
            f"query_labels are {_kind(first)}, gallery_labels are {_kind(second)}; expected one kind of label"
        )
    codes = np.unique(np.concatenate([first, second]), return_inverse=True)[1].astype(np.int32)
    shape = (len(first), len(second))
    itself, ignored = _leaving(exclude_self, ignore, shape)
    return Relevance(
        query_codes=codes[: len(first)],
        gallery_codes=codes[len(first) :],
        ignored=ignored,
        self_index=itself,
    )


def relevance_from_table(
    query: jax.Array, gallery: jax.Array, relevant: Any, exclude_self: bool | ArrayLike, ignore: Any = None
) -> Relevance:
    """Relevance by a bool table `[q, g]` or one list of gallery positions per query; `ignore` likewise."""
    shape = (query.shape[0], gallery.shape[0])
    itself, ignored = _leaving(exclude_self, ignore, shape)
    return Relevance(table=check_table("relevant", relevant, shape), ignored=ignored, self_index=itself)


def check_table(name: str, table: Any, shape: tuple[int, int]) -> Any:
    """`table` as `Relevance` holds it, or a JaxalignError."""
    if not isinstance(table, jax.Array):
        if _is_lists(table):
            return _padded_lists(name, table, shape)
        table = np.asarray(table)
    if table.shape != shape or table.dtype != bool:
        raise JaxalignError(
            f"{name} is {table.dtype} of shape {table.shape}; expected bool of shape {shape},"
            " [queries, gallery], or one list of gallery positions per query"
        )
    return table


def _is_lists(table: Any) -> bool:
    if isinstance(table, np.ndarray):
        return table.dtype == object and table.ndim == 1
    return isinstance(table, Sequence) and not all(np.asarray(row).dtype == bool for row in table)


def _padded_lists(name: str, lists: Any, shape: tuple[int, int]) -> np.ndarray:
    queries, items = shape
    if len(lists) != queries:
        raise JaxalignError(f"{name} has {len(lists)} lists; expected one per query, {queries}")
    rows = [np.asarray(row) for row in lists]
    padded = np.full((queries, max(1, *(row.size for row in rows))), items, np.int32)
    for i, row in enumerate(rows):
        if row.size == 0:
            continue
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise JaxalignError(
                f"{name}[{i}] is {row.dtype} of shape {row.shape}; expected gallery positions, integers [m]"
            )
        if row.min() < 0 or row.max() >= items:
            raise JaxalignError(
                f"{name}[{i}] has positions from {row.min()} to {row.max()};"
                f" expected 0 to {items - 1}, positions in the gallery"
            )
        padded[i, : row.size] = row
    return padded


def _table_rows(table: Any, index: Any, gallery_size: int) -> Any:
    rows = table[index]
    if rows.dtype == bool:
        return rows
    empty = jnp.zeros((rows.shape[0], gallery_size), bool)
    return empty.at[jnp.arange(rows.shape[0])[:, None], rows].set(True, mode="drop")


def _check_labels(name: str, labels: Any, count: int) -> np.ndarray:
    if isinstance(labels, Tracer):
        raise JaxalignError(
            f"{name} are traced, but labels are compared on the host; under jit or vmap use average_precision"
            " with relevant = query_labels[:, None] == gallery_labels"
        )
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) != count:
        raise JaxalignError(f"{name} has shape {labels.shape}; expected one label per row, ({count},)")
    if labels.dtype.kind == "T" or (labels.dtype.kind == "O" and all(isinstance(x, str) for x in labels)):
        labels = labels.astype(str)
    if labels.dtype.kind not in "biuUS":
        raise JaxalignError(f"{name} has dtype {labels.dtype}; expected integers or strings")
    return labels if labels.dtype.kind in "US" else labels.astype(np.int64)


def _kind(labels: np.ndarray) -> str:
    return {"i": "integers", "U": "strings", "S": "bytes"}[labels.dtype.kind]


def _leaving(exclude_self: bool | ArrayLike, ignore: Any, shape: tuple[int, int]) -> tuple[Any, Any]:
    """`self_index` and `ignored` of a `Relevance`: a query's own item, and what else leaves its gallery."""
    itself = _self_index(exclude_self, *shape)
    ignored = None if ignore is None else check_table("ignore", ignore, shape)
    if np.ndim(itself) < 2:
        return itself, ignored
    if (itself < 0).all():  # no query is in the gallery
        return None, ignored
    first, others = itself[:, 0], np.where(itself[:, 1:] < 0, shape[1], itself[:, 1:])
    if (others == shape[1]).all():
        return first, ignored
    return first, others if ignored is None else _both(ignored, others, shape)


def _both(ignored: Any, others: np.ndarray, shape: tuple[int, int]) -> Any:
    """A table with the items of a table and of padded positions."""
    ignored = np.asarray(ignored)
    if ignored.dtype != bool:
        return np.concatenate([ignored, others], axis=1)
    more = np.zeros((shape[0], shape[1] + 1), bool)
    more[np.arange(shape[0])[:, None], others] = True
    return ignored | more[:, :-1]


def _self_index(exclude_self: bool | ArrayLike, queries: int, items: int) -> Any:
    """None, positions int `[q]`, or those of several copies, `[q, m]`."""
    if isinstance(exclude_self, bool | np.bool_):
        if not exclude_self:
            return None
        if queries != items:
            raise JaxalignError(
                f"exclude_self=True says query i is gallery item i, but there are {queries} queries and"
                f" {items} gallery items; pass exclude_self=positions, the gallery position of each query"
            )
        return np.arange(queries, dtype=np.int32)
    if isinstance(exclude_self, Tracer):
        return exclude_self
    positions = np.asarray(exclude_self)
    copies = positions.ndim == 2 and positions.shape[1] > 0
    if positions.shape[: 1 + copies] != (queries, *positions.shape[1:]) or positions.dtype.kind not in "iu":
        raise JaxalignError(
            f"exclude_self is {positions.dtype} of shape {positions.shape}; expected True, False, or the"
            f" gallery position of each query, integers ({queries},), or of each one's copies ({queries}, m)"
        )
    lowest = -1 if copies else 0
    if positions.min() < lowest or positions.max() >= items:
        raise JaxalignError(
            f"exclude_self has positions from {positions.min()} to {positions.max()};"
            f" expected {lowest} to {items - 1}, positions in the gallery"
        )
    return positions.astype(np.int32)


class Positions:
    """Each query's positives, and what leaves its gallery, as gallery positions, made when asked for.

    Args:
      relevance: concrete.
      items: of the gallery.
    """

    def __init__(self, relevance: Relevance, items: int):
        of = lambda field: None if field is None else np.asarray(field)
        self._table, self._ignored, self._itself = map(
            of, (relevance.table, relevance.ignored, relevance.self_index)
        )
        self._items = items
        if self._table is None:
            gallery, codes = np.asarray(relevance.gallery_codes), np.asarray(relevance.query_codes)
            self._by_code = np.argsort(gallery, kind="stable")
            self._first, self._stop = (
                np.searchsorted(gallery, codes, side, sorter=self._by_code) for side in ("left", "right")
            )

    @property
    def sizes(self) -> np.ndarray:
        """About how many positives each query has, `[q]`: those that leave its gallery are among them."""
        if self._table is None:
            return self._stop - self._first
        return (self._table if self._table.dtype == bool else self._table < self._items).sum(axis=1)

    def of(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Positives and ignored items of one query, the query itself among these; no item is in both."""
        ignored = [] if self._ignored is None else [self._listed(self._ignored[query])]
        if self._itself is not None and self._itself[query] >= 0:
            ignored.append(self._itself[query : query + 1])
        if self._table is None:
            relevant = self._by_code[self._first[query] : self._stop[query]]
        else:
            relevant = self._listed(self._table[query])
        if not ignored:
            return relevant, np.zeros(0, np.int32)
        left_out = np.concatenate(ignored)
        return np.setdiff1d(relevant, left_out), left_out

    def _listed(self, row: np.ndarray) -> np.ndarray:
        return np.flatnonzero(row) if row.dtype == bool else np.unique(row[row < self._items])
