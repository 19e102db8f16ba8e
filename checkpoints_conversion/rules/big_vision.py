"""big_vision's `two_towers` (SigLIP, SigLIP 2): its names and layouts are ours."""

from collections.abc import Mapping
from dataclasses import replace

from checkpoints_conversion.engine import Rule, Table
from checkpoints_conversion.transforms import stacked, value
from jaxalign.stored import StoredTensor
from jaxalign.tensors import DEEPEST

PREFIX = "params/"
IGNORED = ("opt/", "extra/")  # what a training checkpoint holds besides its `params/`

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
    "img/pos_embedding",
    *(f"img/Transformer/encoderblock_{{i}}/{name}" for name in BLOCK),
    "img/Transformer/encoder_norm/scale",
    "img/Transformer/encoder_norm/bias",
    "img/MAPHead_0/probe",
    *(f"img/MAPHead_0/{name}" for name in (*ATTENTION, "LayerNorm_0/scale", "LayerNorm_0/bias", *MLP)),
    "txt/Embed_0/embedding",
    "txt/pos_embedding",
    *(f"txt/Encoder_0/encoderblock_{{i}}/{name}" for name in BLOCK),
    "txt/Encoder_0/encoder_norm/scale",
    "txt/Encoder_0/encoder_norm/bias",
    "txt/head/kernel",
    "txt/head/bias",
    "t",
    "b",
)

BIG_VISION = Table(
    "big_vision two_towers",
    (
        *(Rule(name, (name,), value) for name in NAMES),
        # older text towers add positions a second time
        Rule("txt/Encoder_0/pos_embedding", ("txt/pos_embedding",), value, added=True),
    ),
    telling=("img/embedding/kernel", "img/MAPHead_0/probe", "txt/Embed_0/embedding"),
    models=("siglip-base-patch16-224-big-vision", "siglip2-base-patch16-224-big-vision"),
)


def plain_names(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The model's tensors, their names without the `params/` under which training checkpoints have them."""
    if any(name.startswith(PREFIX) for name in tensors):
        tensors = {k.removeprefix(PREFIX): v for k, v in tensors.items() if not k.startswith(IGNORED)}
    return dict(tensors)


def with_stacks(table: Table, found: Mapping[str, StoredTensor]) -> Table:
    """`table` for a file in which nn.scan has stacked the blocks: one source for the same layer of all."""

    def stack(rule: Rule) -> Rule:
        source = rule.source.replace("encoderblock_{i}", "encoderblock")
        depth = found[source].shape[:1] if source != rule.source and source in found else ()
        if not depth or depth[0] > DEEPEST:
            return rule
        return Rule(source, tuple(rule.targets[0].format(i=i) for i in range(depth[0])), stacked)

    return replace(table, rules=tuple(map(stack, table.rules)))
