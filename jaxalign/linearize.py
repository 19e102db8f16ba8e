"""SigLIP 2's attention-pooling head as one affine map, so that it can be decomposed like any projector."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxalign.arguments import check_kind
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.projectors import Projector

_LAYOUTS = ("paper", "reference")


def linearize_mlp_head(
    head_params: Mapping[str, Any], slope: float = 0.5, layout: str = "paper"
) -> Projector:
    """First-order map of `x + W2 gelu(W1 LN(x) + b1) + b2`, with x the attention-pooled feature.

    LayerNorm is taken as the identity once its affine part is absorbed, and `gelu(z)` as `slope * z`:
    `W1~ = W1 diag(gamma)`, `b1~ = W1 beta + b1`, `W_eff = I + slope W2 W1~`, `b_eff = slope W2 b1~ + b2`
    (IsoCLIP, the SigLIP 2 head).

    Args:
      head_params: big_vision's MAPHead parameters, of which `LayerNorm_0/{scale,bias}` `[d]`,
        `MlpBlock_0/Dense_0/{kernel [d, m], bias [m]}` and `MlpBlock_0/Dense_1/{kernel [m, d], bias [d]}` are
        read; other keys are ignored.
      slope: gelu's derivative at 0.
      layout: "paper" is `x @ W_eff.T + b_eff`. "reference" is what the published code computes, `x @ W_eff +
        b_eff` with the same `[out, in]` matrix: needed to reproduce its numbers, wrong as a linearisation.
        That code transposes a square text head in the same way; `model.with_layout("reference").projectors`
        has both.

    Returns:
      Projector with kernel `[d, d]` and bias `[d]`.

    Raises:
      JaxalignError: parameters that are missing or whose shapes do not fit, or an unknown layout.

    Examples:
      >>> import jaxalign as ja
      >>> model = ja.load("emoji-siglip")
      >>> head = ja.linearize_mlp_head(model.params["img"]["MAPHead_0"])
      >>> head.kernel.shape
      (256, 256)
    """
    if layout not in _LAYOUTS:
        raise unknown_name("layout", layout, _LAYOUTS)
    check_kind("head_params", head_params, Mapping, 'model.params["img"]["MAPHead_0"] of a SigLIP')
    scale, shift, kernel_0, bias_0, kernel_1, bias_1 = _read(head_params)
    with jax.default_matmul_precision("highest"):
        residual = slope * (scale[:, None] * kernel_0) @ kernel_1
        kernel = jnp.eye(residual.shape[0], dtype=residual.dtype) + residual
        bias = slope * (shift @ kernel_0 + bias_0) @ kernel_1 + bias_1
    return Projector(kernel if layout == "paper" else kernel.T, bias)


def _read(head_params: Mapping[str, Any]) -> list[jax.Array]:
    """The six arrays in order of use, their shapes checked against the width and hidden width of Dense_0."""
    paths = {
        "LayerNorm_0/scale": "d",
        "LayerNorm_0/bias": "d",
        "MlpBlock_0/Dense_0/kernel": "dm",
        "MlpBlock_0/Dense_0/bias": "m",
        "MlpBlock_0/Dense_1/kernel": "md",
        "MlpBlock_0/Dense_1/bias": "d",
    }
    arrays = {path: _lookup(head_params, path) for path in paths}
    missing = [path for path, array in arrays.items() if array is None]
    if missing:
        raise JaxalignError(
            f"the head has no {', '.join(missing)} (its keys: {', '.join(map(str, head_params)) or 'none'});"
            " pass the MAPHead subtree of a big_vision model"
        )
    arrays = {path: jnp.asarray(array) for path, array in arrays.items()}
    kernel = arrays["MlpBlock_0/Dense_0/kernel"].shape
    if len(kernel) != 2:
        raise JaxalignError(f"MlpBlock_0/Dense_0/kernel has shape {kernel}; expected [d, hidden]")
    size = dict(zip("dm", kernel, strict=True))
    wrong = [
        f"{path} is {arrays[path].shape}, expected {tuple(size[axis] for axis in axes)}"
        for path, axes in paths.items()
        if arrays[path].shape != tuple(size[axis] for axis in axes)
    ]
    if wrong:
        raise JaxalignError(f"shapes that do not fit MlpBlock_0/Dense_0/kernel {kernel}: {'; '.join(wrong)}")
    return list(arrays.values())


def _lookup(tree: Any, path: str) -> Any:
    for key in path.split("/"):
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree
