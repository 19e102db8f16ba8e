"""big_vision's `two_towers` (SigLIP, SigLIP 2): its names and layouts are ours."""

from collections.abc import Callable, Mapping

import numpy as np

from checkpoints_conversion.engine import Rule, Table
from checkpoints_conversion.transforms import value
from jaxalign.stored import StoredTensor

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
    """The tensors of a file without `params/`, and one for each block where nn.scan has stacked them."""
    if any(name.startswith(PREFIX) for name in tensors):
        tensors = {k.removeprefix(PREFIX): v for k, v in tensors.items() if not k.startswith(IGNORED)}
    out: dict[str, StoredTensor] = {}
    last: dict[str, np.ndarray] = {}  # the stack that was read last, whose blocks are asked for in a row
    for name, tensor in tensors.items():
        if "/encoderblock/" not in name or not tensor.shape:
            out[name] = tensor
            continue
        for i in range(tensor.shape[0]):
            block = StoredTensor(tensor.shape[1:], tensor.dtype, _read_block(name, tensor, i, last))
            out[name.replace("/encoderblock/", f"/encoderblock_{i}/")] = block
    return out


def _read_block(
    name: str, stack: StoredTensor, i: int, last: dict[str, np.ndarray]
) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        if name not in last:
            last.clear()
            last[name] = stack.read()
        return last[name][i]

    return read
