"""What the rule tables are made of: rows (name in the file, path of ours, kind of layer), and the kinds.

A kind says which tensors such a layer has on both sides. Names of the source end where the kind's begin.
"""

from collections.abc import Iterable

from jaxalign.conversion.engine import Rule
from jaxalign.conversion.transforms import (
    Transform,
    conv,
    flat,
    from_heads,
    fused_bias,
    fused_columns,
    fused_heads,
    linear,
    patch_positions,
    query_value_bias,
    rows,
    rows_of_heads,
    scalar,
    to_heads,
    value,
    zeros,
)

Kind = tuple[tuple[str, tuple[str, ...], Transform], ...]
Row = tuple[str, str, Kind]

QKV_KERNELS = ("/query/kernel", "/key/kernel", "/value/kernel")
QKV_BIASES = ("/query/bias", "/key/bias", "/value/bias")
KV_KERNELS, KV_BIASES = QKV_KERNELS[1:], QKV_BIASES[1:]

VALUE: Kind = (("", ("",), value),)
PATCH_POSITIONS: Kind = (("", ("",), patch_positions),)
FLAT: Kind = (("", ("",), flat),)
ROWS: Kind = (("", ("",), rows),)
SCALAR: Kind = (("", ("",), scalar),)
ZEROS: Kind = (("", ("",), zeros),)
NORM: Kind = ((".weight", ("/scale",), value), (".bias", ("/bias",), value))
LINEAR: Kind = ((".weight", ("/kernel",), linear), (".bias", ("/bias",), value))
CONV: Kind = ((".weight", ("/kernel",), conv), (".bias", ("/bias",), value))
BATCH_NORM: Kind = (
    *NORM,
    (".running_mean", ("/mean",), value),
    (".running_var", ("/var",), value),
)
TO_HEADS: Kind = ((".weight", ("/kernel",), to_heads), (".bias", ("/bias",), flat))
TO_HEADS_KERNEL: Kind = ((".weight", ("/kernel",), to_heads),)
FROM_HEADS: Kind = ((".weight", ("/kernel",), from_heads), (".bias", ("/bias",), value))
QKV: Kind = ((".weight", QKV_KERNELS, fused_heads), (".bias", QKV_BIASES, fused_bias))
QKV_KERNEL: Kind = ((".weight", QKV_KERNELS, fused_heads),)
QKV_MASKED_KEY: Kind = (*QKV_KERNEL, (".bias", ("/query/bias", "/value/bias"), query_value_bias))
KV: Kind = ((".weight", KV_KERNELS, fused_heads), (".bias", KV_BIASES, fused_bias))
KV_KERNEL: Kind = ((".weight", KV_KERNELS, fused_heads),)
IN_PROJ: Kind = (("_weight", QKV_KERNELS, fused_heads), ("_bias", QKV_BIASES, fused_bias))
# GPT-2's layers, which hold their kernels as (in, out).
COLUMNS: Kind = ((".weight", ("/kernel",), value), (".bias", ("/bias",), value))
QKV_COLUMNS: Kind = ((".weight", QKV_KERNELS, fused_columns), (".bias", QKV_BIASES, fused_bias))
ROWS_OF_HEADS: Kind = ((".weight", ("/kernel",), rows_of_heads), (".bias", ("/bias",), value))


def rules(rows: Iterable[Row]) -> tuple[Rule, ...]:
    """One rule for each tensor of each row."""
    return tuple(
        Rule(
            "" if transform is zeros else "|".join(name + suffix for name in source.split("|")),
            tuple(target + ending for ending in endings),
            transform,
        )
        for source, target, kind in rows
        for suffix, endings, transform in kind
    )


def under(source: str, target: str, rows: Iterable[Row]) -> tuple[Row, ...]:
    """`rows` with both sides below a prefix; `|` in `source` separates those of several generations."""
    return tuple(
        ("|".join(s + name for s in source.split("|") for name in row.split("|")), target + path, kind)
        for row, path, kind in rows
    )
