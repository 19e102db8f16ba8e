"""Modality inversion per image and step, against the published procedure: a PyTorch loop with autograd
through all tokens (transformers' modules, random weights, fp32).

A step is one evaluation with its gradient; our n steps make n + 1 of them, and are divided by that. PyTorch's
loop takes 32 examples at most, since its time for an image does not fall with the batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.inversion.descent import Descent, Outcome, descend
from jaxalign.inversion.image_path import ImagePath
from jaxalign.inversion.text_path import TextPath
from jaxalign.models import ImageTower, ImageTowerConfig, TextTower, TextTowerConfig

from .costs import Products, image_tower, text_path
from .measure import Claim, pair
from .settings import pick, settings

VOCABULARY = 2000  # what a step does not touch
LOOPED = 32  # examples of the reference at most
DEPTH = pick(12, 1)
OTI_BATCHES, BATCH = pick(((32, 60), (256, 80)), ((2, None),)), pick(16, 2)  # and what is promised
CLIP_TEXT = TextTowerConfig(
    vocabulary=VOCABULARY,
    context=77,
    width=512,
    depth=DEPTH,
    heads=8,
    mlp_hidden=2048,
    activation="quick_gelu",
    norm_epsilon=1e-5,
    causal=True,
    projection=512,
    projection_bias=False,
    end_token=1,
)
SIGLIP_TEXT = replace(
    CLIP_TEXT,
    context=64,
    width=768,
    heads=12,
    mlp_hidden=3072,
    activation="gelu_tanh",
    norm_epsilon=1e-6,
    causal=False,
    projection=768,
    projection_bias=True,
)
CLIP_IMAGE = ImageTowerConfig(
    image_size=224,
    patch_size=32,
    width=768,
    depth=DEPTH,
    heads=12,
    mlp_hidden=3072,
    activation="quick_gelu",
    norm_epsilon=1e-5,
    pooling="cls",
    projection=512,
    patch_bias=False,
    pre_norm=True,
)
PROMPT = (0, 320, 1125, 539)


@dataclass(frozen=True)
class Run:
    """One of our descents, ready to be timed."""

    path: Any
    prepared: Any
    batch: int
    steps: int

    def __call__(self) -> Outcome:
        rng = np.random.default_rng(0)
        width = self.path.config.projection
        targets = jnp.asarray(rng.normal(size=(self.batch, width)), jnp.float32)
        tokens = jnp.asarray(0.02 * rng.normal(size=(self.batch, *self.path.shape)), jnp.float32)
        return descend(self.path, self._descent, self.prepared, targets, tokens)

    @property
    def _descent(self) -> Descent:
        return Descent(self.steps, 0.02, 0.01, (), None)

    def peak_mib(self) -> float:
        """Memory beside the parameters, as XLA plans it; NaN in a quick run, since it compiles once more."""
        if settings().quick:
            return float("nan")
        path = self.path
        shapes = ((self.batch, path.config.projection), (self.batch, *path.shape))
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        plan = descend.lower(path, self._descent, self.prepared, *arrays).compile().memory_analysis()
        return float("nan") if plan is None else plan.temp_size_in_bytes / 2**20

    def claim(self, name: str, products: Products, loop: Callable, at_least: float | None) -> Claim:
        """Against one step of PyTorch's `loop`, by turns."""
        batch = min(self.batch, LOOPED)
        step = loop(batch)
        found = pair(self, step, repeats=5, budget=60)
        return Claim(
            f"{name}, batch {self.batch} ({self.peak_mib():.0f} MiB)",
            found.seconds / self.batch / (self.steps + 1),
            found.compile_seconds,
            "PyTorch loop",
            found.reference_seconds / batch,
            at_least,
            products.forward_and_back,
            unit="image and step",
        )


def claims() -> Iterator[Claim]:
    """OTI with a causal and a bidirectional text tower, OVI, and OTI in bfloat16 against float32."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        print("inversion: skipped, its references need PyTorch (pip install 'jaxalign[reference]')")
        return
    params = _params(TextTower(CLIP_TEXT), jnp.zeros((1, 77), jnp.int32))
    path = TextPath(CLIP_TEXT, jnp.dtype("float32"), PROMPT, 1, (1,))
    products = text_path(CLIP_TEXT, len(PROMPT), 1, 1)
    for batch, at_least in OTI_BATCHES:
        run = Run(path, path.prepare(params), batch, 9)
        yield run.claim("OTI, CLIP ViT-B/32", products, _clip_text_loop, at_least)
    yield _bfloat16(path, params)

    path = TextPath(SIGLIP_TEXT, jnp.dtype("float32"), PROMPT[1:], 1, (1,) * 60)
    params = _params(TextTower(SIGLIP_TEXT), jnp.zeros((1, 64), jnp.int32))
    products = text_path(SIGLIP_TEXT, len(PROMPT) - 1, 1, 60)
    run = Run(path, path.prepare(params), BATCH, 2)
    yield run.claim("OTI, SigLIP B/16", products, _siglip_text_loop, 2)

    path = ImagePath(CLIP_IMAGE, jnp.dtype("float32"), 4)
    params = _params(ImageTower(CLIP_IMAGE), jnp.zeros((1, 224, 224, 3)))
    products = image_tower(CLIP_IMAGE, patches=False)
    run = Run(path, params, BATCH, 2)
    yield run.claim("OVI, CLIP ViT-B/32, P = 4", products, _clip_image_loop, 2.5)


def _bfloat16(path: TextPath, params: Any) -> Claim:
    """The time in bfloat16 against float32, and how far apart the results are after 50 steps."""
    batch, steps = pick((32, 50), (2, 3))
    exact, rounded = (
        Run(p := replace(path, dtype=jnp.dtype(dtype)), p.prepare(params), batch, steps)
        for dtype in ("float32", "bfloat16")
    )
    ours, reference, compiling = pair(rounded, exact, repeats=3)
    a, b = exact(), rounded()
    cosine = (a.embeddings * b.embeddings).sum(1) / jnp.linalg.norm(a.embeddings, axis=1)
    cosine = cosine / jnp.linalg.norm(b.embeddings, axis=1)
    worse = float((b.losses[:, -1] - a.losses[:, -1]).mean())
    return Claim(
        f"OTI, CLIP ViT-B/32, bfloat16, batch {batch} (cosine {float(cosine.mean()):.4f}, loss {worse:+.4f})",
        ours / batch / (steps + 1),
        compiling,
        "ours, float32",
        reference / batch / (steps + 1),
        unit="image and step",
    )


def _params(tower: Any, example: jax.Array) -> Any:
    if settings().quick:  # nothing to compile
        shapes = jax.eval_shape(tower.init, jax.random.key(0), example)["params"]
        return jax.tree.map(lambda x: jnp.full(x.shape, 0.02, x.dtype), shapes)
    return jax.jit(tower.init)(jax.random.key(0), example)["params"]


def _torch_loop(embed: Callable, shape: tuple[int, ...], width: int) -> Callable[[], Any]:
    """One step of the published procedure: AdamW on the mean of 1 - cosine."""
    import torch

    torch.manual_seed(0)
    tokens = (0.02 * torch.randn(shape)).requires_grad_(True)
    targets = torch.nn.functional.normalize(torch.randn(shape[0], width), dim=-1)
    optimizer = torch.optim.AdamW([tokens], lr=0.02, weight_decay=0.01)

    def step() -> float:
        optimizer.zero_grad()
        loss = (1 - (torch.nn.functional.normalize(embed(tokens), dim=-1) * targets).sum(-1)).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _through(layers: Any, x: Any, mask: Any = None) -> Any:
    for layer in layers:
        x = layer(x, attention_mask=mask)
        x = x[0] if isinstance(x, tuple) else x
    return x


def _sizes(c: TextTowerConfig | ImageTowerConfig) -> dict[str, Any]:
    return {
        "hidden_size": c.width,
        "intermediate_size": c.mlp_hidden,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
    }


def _clip_text_loop(batch: int) -> Callable[[], Any]:
    import torch
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=VOCABULARY, projection_dim=512, bos_token_id=0, eos_token_id=1, **_sizes(CLIP_TEXT)
    )
    model = transformers.CLIPTextModelWithProjection(config).eval().requires_grad_(False)
    text = model.text_model
    ids = torch.tensor([[*PROMPT, 1950, *(1,) * 72]]).expand(batch, -1)
    mask = torch.full((77, 77), float("-inf")).triu(1)[None, None]

    def embed(tokens: Any) -> Any:
        x = text.embeddings.token_embedding(ids)
        x = torch.cat([x[:, :4], tokens, x[:, 5:]], 1) + text.embeddings.position_embedding.weight
        x = _through(text.encoder.layers, x, mask)
        return model.text_projection(text.final_layer_norm(x)[:, 5])

    return _torch_loop(embed, (batch, 1, 512), 512)


def _siglip_text_loop(batch: int) -> Callable[[], Any]:
    import torch
    import transformers

    config = transformers.SiglipTextConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        projection_size=768,
        bos_token_id=0,
        eos_token_id=1,
        **_sizes(SIGLIP_TEXT),
    )
    model = transformers.SiglipTextModel(config).eval().requires_grad_(False)
    text = getattr(model, "text_model", model)  # an attribute until transformers 5
    ids = torch.tensor([[*PROMPT[1:], 1950, *(1,) * 60]]).expand(batch, -1)

    def embed(tokens: Any) -> Any:
        x = text.embeddings.token_embedding(ids)
        x = torch.cat([x[:, :3], tokens, x[:, 4:]], 1) + text.embeddings.position_embedding.weight
        return text.head(text.final_layer_norm(_through(text.encoder.layers, x))[:, -1])

    return _torch_loop(embed, (batch, 1, 768), 768)


def _clip_image_loop(batch: int, count: int = 4) -> Callable[[], Any]:
    import torch
    import transformers

    config = transformers.CLIPVisionConfig(
        image_size=224, patch_size=32, projection_dim=512, **_sizes(CLIP_IMAGE)
    )
    model = transformers.CLIPVisionModelWithProjection(config).eval().requires_grad_(False)
    image = model.vision_model

    def embed(tokens: Any) -> Any:
        patches = torch.nn.functional.interpolate(tokens[:, None], size=(49, 768), mode="nearest")[:, 0]
        x = torch.cat([image.embeddings.class_embedding.expand(batch, 1, -1), patches], 1)
        x = image.pre_layrnorm(x + image.embeddings.position_embedding.weight)
        x = _through(image.encoder.layers, x)
        return model.visual_projection(image.post_layernorm(x[:, 0]))

    return _torch_loop(embed, (batch, count, 768), 512)
