"""big_vision's `two_towers` (SigLIP, SigLIP 2, LiT): its names and layouts are ours.

Its code has one activation, linen's `nn.gelu`, which is the tanh approximation, LayerNorms of epsilon 1e-6,
and images resized to a square with values from -1 to 1. An image tower ends in an attention pool or, as LiT's
do, in the class token, and then with `out_dim` in a linear head with bias.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from jaxalign.conversion.engine import Format, Rule
from jaxalign.conversion.transforms import patch_positions, stacked, value
from jaxalign.weights.stored import StoredTensor
from jaxalign.weights.tensors import DEEPEST

PREFIX = "params/"
IGNORED = ("opt/", "extra/")  # what a training checkpoint holds besides its `params/`
POSITIONS = "img/pos_embedding"
BLOCKS = {"img": "img/Transformer/encoderblock", "txt": "txt/Encoder_0/encoderblock"}  # of stacked ones

ATTENTION = tuple(
    f"MultiHeadDotProductAttention_0/{projection}/{leaf}"
    for projection in ("query", "key", "value", "out")
    for leaf in ("kernel", "bias")
)
MLP = tuple(f"MlpBlock_0/Dense_{i}/{leaf}" for i in (0, 1) for leaf in ("kernel", "bias"))
BLOCK = (
    "LayerNorm_0/scale",
    "LayerNorm_0/bias",
    *ATTENTION,
    "LayerNorm_1/scale",
    "LayerNorm_1/bias",
    *MLP,
)
NAMES = (
    "img/embedding/kernel",
    "img/embedding/bias",
    POSITIONS,
    *(f"{BLOCKS['img']}_{{i}}/{name}" for name in BLOCK),
    "img/Transformer/encoder_norm/scale",
    "img/Transformer/encoder_norm/bias",
    "img/cls",
    "img/MAPHead_0/probe",
    *(f"img/MAPHead_0/{name}" for name in (*ATTENTION, "LayerNorm_0/scale", "LayerNorm_0/bias", *MLP)),
    "img/head/kernel",
    "img/head/bias",
    "txt/Embed_0/embedding",
    "txt/pos_embedding",
    *(f"{BLOCKS['txt']}_{{i}}/{name}" for name in BLOCK),
    "txt/Encoder_0/encoder_norm/scale",
    "txt/Encoder_0/encoder_norm/bias",
    "txt/head/kernel",
    "txt/head/bias",
    "t",
    "b",
)

BIG_VISION = Format(
    "big_vision two_towers",
    (
        *(Rule(name, (name,), value) for name in NAMES),
        # older text towers add positions a second time
        Rule("txt/Encoder_0/pos_embedding", ("txt/pos_embedding",), value, added=True),
    ),
    telling=("img/embedding/kernel", "txt/Embed_0/embedding"),
    one_preprocessing=True,
)


def plain_names(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The model's tensors, their names without the `params/` under which training checkpoints have them."""
    if any(name.startswith(PREFIX) for name in tensors):
        tensors = {k.removeprefix(PREFIX): v for k, v in tensors.items() if not k.startswith(IGNORED)}
    return dict(tensors)


def stacked_towers(found: Mapping[str, StoredTensor]) -> tuple[str, ...]:
    """The towers whose blocks nn.scan has stacked: `img`, `txt`."""
    return tuple(tower for tower, blocks in BLOCKS.items() if any(n.startswith(f"{blocks}/") for n in found))


def for_file(format: Format, found: Mapping[str, StoredTensor]) -> Format:
    """`format` for a file with the blocks of a tower stacked, one source for the same layer of all; and for
    one whose class token has no position: big_vision puts it before the patches once these have theirs."""
    rows = found[POSITIONS].shape[-2:-1] if POSITIONS in found else ()
    is_grid = bool(rows) and math.isqrt(rows[0]) ** 2 == rows[0]  # older files have one more, the token's

    def adapt(rule: Rule) -> Rule:
        if rule.source == POSITIONS and "img/cls" in found and is_grid:
            return replace(rule, transform=patch_positions)
        source = rule.source.replace("encoderblock_{i}", "encoderblock")
        depth = found[source].shape[:1] if source != rule.source and source in found else ()
        if not depth or depth[0] > DEEPEST:
            return rule
        return Rule(source, tuple(rule.targets[0].format(i=i) for i in range(depth[0])), stacked)

    return replace(format, rules=tuple(map(adapt, format.rules)))
