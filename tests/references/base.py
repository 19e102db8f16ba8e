"""What all references share: random parameters everywhere, and a look at what each module gives."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

Size = Literal["tiny", "full"]
Outputs = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """What a test has to feed: images [n, image_size, image_size, 3], ids [n, context] below vocabulary."""

    image_size: int
    context: int = 0
    vocabulary: int = 0


@dataclass(frozen=True)
class Reference:
    """An original class with random parameters, and one form of it on disk.

    Attributes:
      spec: name of the record with the facts of the full size.
      make: the module of a size, as its library initialises it.
      sizes: of a size.
      see_image: pixels [n, 3, h, w] to `pre`, `embedding` [n, d] and `blocks`, a list of [n, l, D] (of
        [n, h, w, D] for a ResNet, after each stage).
      see_text: ids [n, context] to the same; None for image-only models.
      write: the module into a folder; returns what `load` is to be given.
      scale: the logit scale (as multiplied) and bias.
      prepare: changes the random parameters where the format cannot hold all of them.
    """

    spec: str
    make: Callable[[Size], nn.Module]
    sizes: Callable[[Size], Sizes]
    see_image: Callable[[Any, torch.Tensor], Outputs]
    write: Callable[[Any, Path], Path]
    see_text: Callable[[Any, torch.Tensor], Outputs] | None = None
    scale: Callable[[Any], tuple[torch.Tensor, torch.Tensor | float]] | None = None
    prepare: Callable[[Any], None] = lambda model: None

    def build(self, size: Size = "tiny", seed: int = 0) -> nn.Module:
        """The module with every parameter and running statistic drawn at random, in eval mode."""
        model = self.make(size).eval().requires_grad_(False)
        randomise(model, seed)
        self.prepare(model)
        return model

    def save(self, model: nn.Module, folder: Path) -> Path:
        """Write `model` into `folder`, which exists; the path to load is it or a file in it."""
        return self.write(model, folder)

    def image(self, model: nn.Module, pixels: np.ndarray) -> Outputs:
        """float32 [n, h, w, 3] to NumPy `pre`, `embedding` and `blocks`."""
        x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        with torch.inference_mode():
            return _to_numpy(self.see_image(model, x))

    def text(self, model: nn.Module, ids: np.ndarray) -> Outputs:
        """int32 [n, context] to NumPy `pre`, `embedding` and `blocks`."""
        assert self.see_text is not None
        with torch.inference_mode():
            return _to_numpy(self.see_text(model, torch.from_numpy(ids).long()))

    def logits(self, model: nn.Module, pixels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """[images, texts], scaled (and shifted) as in the loss."""
        assert self.scale is not None
        image, text = (
            z / np.linalg.norm(z, axis=1, keepdims=True)
            for z in (self.image(model, pixels)["embedding"], self.text(model, ids)["embedding"])
        )
        scale, bias = map(float, self.scale(model))
        return image @ text.T * scale + bias

    def inputs(self, size: Size = "tiny", n: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels and ids; the highest id ends each text somewhere, and other ids follow it."""
        rng, sizes = np.random.default_rng(seed), self.sizes(size)
        pixels = rng.normal(size=(n, sizes.image_size, sizes.image_size, 3)).astype(np.float32)
        if self.see_text is None:
            return pixels, None
        ids = rng.integers(2, sizes.vocabulary - 1, (n, sizes.context)).astype(np.int32)
        ids[np.arange(n), rng.integers(2, sizes.context - 1, n)] = sizes.vocabulary - 1
        return pixels, ids


def randomise(model: nn.Module, seed: int) -> None:
    """Draw all parameters: none is zero or one, products keep the size of what goes in."""
    generator = torch.Generator().manual_seed(seed)
    norms = (nn.LayerNorm, nn.BatchNorm2d)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator)
            if isinstance(module, norms) and name == "weight":
                noise = 1 + 0.2 * noise
            elif any(part in name for part in ("gamma", "lambda1", "logit")):
                noise = 0.5 + 0.1 * noise
            elif (
                parameter.ndim == 1 or "embed" in name or "token" in name or isinstance(module, nn.Embedding)
            ):
                noise = 0.2 * noise
            else:  # a kernel [out, in, ...], or a projection [in, out]
                fan_in = (
                    parameter.shape[0] if "proj" in name and parameter.ndim == 2 else parameter[0].numel()
                )
                noise = noise * fan_in**-0.5
            parameter.data.copy_(noise)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(0.2 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))


@contextmanager
def seen(modules: Iterable[nn.Module], inputs: bool = False) -> Iterator[list[torch.Tensor]]:
    """What each of `modules` gives (or is given, with `inputs`), in the order in which they run."""
    found: list[torch.Tensor] = []

    def record(module: nn.Module, given: Any, gives: Any) -> None:
        value = given if inputs else gives
        found.append((value[0] if isinstance(value, tuple) else value).clone())

    hooks = [module.register_forward_hook(record) for module in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def at_end(x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """[n, l, D] at the first of the highest ids, as CLIP pools a text."""
    return x[torch.arange(len(x)), ids.argmax(-1)]


def save_torch(tensors: Any, path: Path) -> Path:
    torch.save(tensors, path)
    return path


def _to_numpy(outputs: Outputs) -> Outputs:
    convert = lambda x: [y.float().numpy() for y in x] if isinstance(x, list) else x.float().numpy()
    return {name: convert(x) for name, x in outputs.items()}
