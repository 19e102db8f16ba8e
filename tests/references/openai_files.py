"""OpenAI's own files: a TorchScript archive with half-precision weights, or its state dict."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .base import save_torch


def halve(model: Any) -> None:
    """Round all parameters to half precision, so that a file in half precision loses nothing."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and torch.isfinite(tensor).all():
            tensor.data.copy_(tensor.data.half().float())


def write_archive(name: str, model: Any, folder: Path) -> Path:
    """What `torch.jit.save` makes of OpenAI's model: its tensors, and code around them."""
    path = folder / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated; OpenAI's files are not
        torch.jit.save(torch.jit.script(_tree(_state(model))), path)
    return path


def write_state_dict(name: str, model: Any, folder: Path) -> Path:
    """The same tensors as training code saves them: in a dictionary, names prefixed by data parallelism."""
    state = {f"module.{key}": tensor for key, tensor in _state(model).items()}
    return save_torch({"state_dict": state, "epoch": 32}, folder / name)


def _state(model: Any) -> dict[str, torch.Tensor]:
    """Half precision where OpenAI has it: everything but norms and embeddings."""
    full = ("ln_", "bn", "downsample.1", "embedding", "logit_scale")
    tensors = {
        key: tensor if any(part in key for part in full) else tensor.half()
        for key, tensor in model.state_dict().items()
    }
    side = model.visual.image_size
    facts = {
        "input_resolution": side[0] if isinstance(side, tuple) else side,
        "context_length": model.context_length,
        "vocab_size": model.vocab_size,
    }
    return {**{key: torch.tensor(value) for key, value in facts.items()}, **tensors}


class _Node(nn.Module):
    """A module with tensors and no behaviour."""


def _tree(tensors: dict[str, torch.Tensor]) -> nn.Module:
    root = _Node()
    for name, tensor in tensors.items():
        *parents, leaf = name.split(".")
        node: nn.Module = root
        for parent in parents:
            if parent not in dict(node.named_children()):
                node.add_module(parent, _Node())
            node = node.get_submodule(parent)
        if tensor.is_floating_point():
            node.register_parameter(leaf, nn.Parameter(tensor.clone(), requires_grad=False))
        else:
            node.register_buffer(leaf, tensor.clone())
    return root
