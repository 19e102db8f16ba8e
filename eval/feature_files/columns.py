"""Features, labels and ids of one split, out of the tables that its files hold; checked row by row."""

import string
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.weights.stored import aligned_zeros

from .layouts import Part
from .tables import Table, read_table

# What a key is called that is taken without being asked for; where a file has several of them, one is named.
FEATURE_KEYS = {
    *("features", "feature", "feats", "embeddings", "embedding", "embeds", "emb", "vectors", "vector", "x"),
    *("image_features", "image_feats", "image_embeddings", "image_embeds", "image_embs", "img_emb"),
    *("text_features", "text_feats", "text_embeddings", "text_embeds", "text_embs", "text_emb"),
}
LABEL_KEYS = {
    *("labels", "label", "targets", "target", "y", "class", "class_id", "category"),
    *("image_labels", "class_labels", "label_ids", "class_ids"),
}
ID_KEYS = {"ids", "id", "image_path", "path", "paths", "file_name", "file_names", "filename", "filenames"}
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_ROWS = 1 << 14  # that are looked at together


def choose(table: Table, known: Collection[str], given: str, option: str, ndim: int = 1) -> str | None:
    """The key that is `given`, or the only one of the `known` names; None where there is none. Raises
    JaxalignError for a key that is not there, or several of the known names."""
    if given:
        if given not in table.entries:
            raise unknown_name(f"key of {table.path}", given, table.entries)
        return given
    found = [name for name, entry in table.entries.items() if name.lower() in known and entry.ndim >= ndim]
    if len(found) > 1:
        raise JaxalignError(f"{table.path} has {' and '.join(found)}; say which is meant ({option} NAME)")
    return found[0] if found else None


def read_features(parts: Sequence[Part], key: str, beside: Collection[str]) -> np.ndarray:
    """Features `[n, d]` of all parts in order: float16, bfloat16 or float32; those of one `.npy` are mapped.

    Args:
      key: of the features; by default the one that cannot be meant otherwise.
      beside: columns of a wide table that are none of the features' numbers.

    Raises:
      JaxalignError: no or several such keys, another shape or type, parts that differ, NaN or infinite
        values, and rows of zeros.
    """
    found = [_matrix(read_table(part.features), key, beside) for part in parts]
    first = found[0][:0]
    for part, other in zip(parts, found, strict=True):
        if (other.shape[1], other.dtype) != (first.shape[1], first.dtype):
            raise JaxalignError(
                f"{part.features} has {other.dtype} features {other.shape[1]} wide, and {parts[0].features}"
                f" {first.dtype} ones {first.shape[1]} wide; expected all alike"
            )
    whole = found[0] if len(found) == 1 else _joined(found)
    check_rows(f"{parts[0].features}", whole)
    return whole


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One after the other; a part that was mapped is not held beyond its turn."""
    whole = aligned_zeros((sum(map(len, parts)), parts[0].shape[1]), parts[0].dtype)
    start = 0
    while parts:
        part = parts.pop(0)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _matrix(table: Table, key: str, beside: Collection[str]) -> np.ndarray:
    if table.is_wide:
        return _as_floats(table.path, _wide(table, key, beside))
    name = choose(table, FEATURE_KEYS, key, "--features-key", ndim=2)
    if name is None:
        name = _only_matrix(table)
    return _as_floats(table.path, table.entries[name].read())


def _only_matrix(table: Table) -> str:
    found = [name for name, entry in table.entries.items() if entry.ndim == 2]
    if len(found) == 1:
        return found[0]
    if len(table.entries) == 1:  # of another shape, which is said
        return next(iter(table.entries))
    raise JaxalignError(
        f"{table.path} has {len(found) or 'no'} arrays [n, d] and none that is called features; say which is"
        f" meant (--features-key NAME), of {table.keys}"
    )


def _wide(table: Table, prefix: str, beside: Collection[str]) -> np.ndarray:
    """Features whose numbers are columns, in the order of these: `prefix` and a number each.

    By default all columns that are nothing else; one that is called otherwise is refused, as the number of an
    image, or a score, would be one more number of the feature.
    """
    left = [name for name in table.entries if name not in beside]
    stems = Counter(name.rstrip(string.digits) for name in left)
    stem = prefix or max(stems, key=lambda name: stems[name], default="")
    numbers = {name: name.removeprefix(stem).strip("_") for name in left if name.startswith(stem)}
    names = [name for name, number in numbers.items() if number.isdecimal()]
    strange = [] if prefix else [name for name in left if name not in names]
    columns = {name: table.entries[name].read() for name in strange + names}
    texts = [name for name, column in columns.items() if column.dtype.kind not in "fi"]
    if texts or strange:
        name, why = (
            (texts[0], "has no numbers") if texts else (strange[0], f"is not called {stem}0, {stem}1...")
        )
        raise JaxalignError(
            f"{table.path}: the column {name!r:.80} {why}; say what it is (--label-key or --id-key NAME), or"
            " what the columns of the features begin with (--features-key PREFIX)"
        )
    if not names:
        raise JaxalignError(f"{table.path} has no columns {stem}0, {stem}1...; it has {table.keys}")
    columns = [columns[name] for name in sorted(names, key=lambda name: int(numbers[name]))]
    return np.stack(columns, axis=1).astype(np.float64)


def _as_floats(path: Path, x: np.ndarray) -> np.ndarray:
    if x.ndim != 2 or 0 in x.shape:
        raise JaxalignError(
            f"{path} has features of shape {x.shape}; expected [n, d], a row for each example"
        )
    if x.dtype.newbyteorder("=").name not in _FLOATS:
        raise JaxalignError(f"{path} has features of {x.dtype}; expected {', '.join(_FLOATS)}")
    if x.dtype == np.float64:
        with np.errstate(over="ignore"):  # what float32 does not hold is infinite then, and refused
            return x.astype(np.float32)
    return x.astype(x.dtype.newbyteorder("="), copy=False)


def check_rows(where: str, x: np.ndarray) -> None:
    """Raise for rows that are not finite, and for rows of zeros, which have no direction."""
    finite, some = np.empty(len(x), bool), np.empty(len(x), bool)
    for start in range(0, len(x), _ROWS):
        part = x[start : start + _ROWS]
        part = part.astype(np.float32) if part.dtype == jnp.bfloat16 else part
        finite[start : start + _ROWS] = np.isfinite(part).all(axis=1)
        some[start : start + _ROWS] = part.any(axis=1)
    for wrong, what in ((~finite, "NaN or infinite values"), (~some, "nothing but zeros, no direction,")):
        rows = np.flatnonzero(wrong)
        if rows.size:
            raise JaxalignError(
                f"{where} has {what} in {rows.size:,} of {len(x):,} rows (first:"
                f" {', '.join(map(str, rows[:5]))}); leave those examples out or compute them again"
            )


def read_column(table: Table, key: str) -> np.ndarray:
    """Texts or whole numbers `[n]`; raises JaxalignError for anything else."""
    found = table.entries[key].read()
    where = f"{table.path}" + (f": {key!r:.80}" if key else "")
    if found.ndim != 1 or found.dtype.kind not in "iuUS":
        raise JaxalignError(
            f"{where} is {found.dtype} of shape {found.shape}; expected whole numbers or texts, one for each"
            " example"
        )
    return np.char.decode(found, "utf-8", "replace") if found.dtype.kind == "S" else found


def only_column(table: Table, known: Collection[str], given: str, option: str) -> str:
    """As `choose`, of a file that has nothing else: its only column counts, whatever it is called."""
    name = choose(table, known, given, option)
    if name is None and len(table.entries) == 1:
        return next(iter(table.entries))
    if name is None:
        raise JaxalignError(f"{table.path} has {table.keys}; say which is meant ({option} NAME)")
    return name
