"""Slow, plain versions of what modality inversion computes: all tokens, one example, one step at a time."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxalign.models import ImageTower, TextTower

PLACEHOLDER = "dog"


def full_text_path(model, template, tokens):
    """Embedding [d] of the template with pseudo-tokens [p, width]: all positions, tokenized as a whole."""
    ids = model.tokenizer([template.replace("{}", " ".join([PLACEHOLDER] * len(tokens)))])
    where = np.flatnonzero(ids[0] == model.tokenizer.words([PLACEHOLDER])[0][0])
    tower = TextTower(model.config.text).bind({"params": model.params["txt"]})
    x = tower.embed(ids).at[0, where].set(tokens)
    return tower.project(tower.pool(tower.encode(x)[0], ids))[0]


def full_image_path(model, patches):
    """Embedding [d] of pseudo-patches [p, width], placed one by one."""
    count = model.config.image.num_patches
    x = jnp.stack([patches[i * len(patches) // count] for i in range(count)])
    return ImageTower(model.config.image).bind({"params": model.params["img"]}).encode(x[None])[0][0]


def plain_descent(embed, target, tokens, steps):
    """Losses [steps] and final embedding of one example, step by step, with the paper's numbers."""
    state, losses = _OPTIMIZER.init(tokens), []
    for _ in range(steps):
        value, tokens, state = _step(embed)(tokens, state, target)
        losses.append(value)
    return np.array(losses), embed(tokens)


_OPTIMIZER = optax.adamw(0.02, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.01)


@cache
def _step(embed):
    """Compiled as a whole, once for each `embed`: operation by operation is a minute of compiling."""

    def loss(tokens, target):
        z = embed(tokens)
        return 1 - z @ target / jnp.linalg.norm(z) / jnp.linalg.norm(target)

    @jax.jit
    def step(tokens, state, target):
        value, gradient = jax.value_and_grad(loss)(tokens, target)
        updates, state = _OPTIMIZER.update(gradient, state, tokens)
        return value, optax.apply_updates(tokens, updates), state

    return step


def text_embedding(params, config, ids, where, tokens):
    """Embedding [d] in NumPy float64 of token ids [l] whose positions `where` hold `tokens` [p, D]."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = p["Embed_0"]["embedding"][ids]
    x[where] = tokens
    x = x + p["pos_embedding"][0, : len(ids)]
    mask = np.tril(np.ones((len(ids), len(ids)), bool)) if config.causal else np.ones((len(ids),) * 2, bool)
    for i in range(config.depth):
        block = p["Encoder_0"][f"encoderblock_{i}"]
        attention, mlp = block["MultiHeadDotProductAttention_0"], block["MlpBlock_0"]
        y = _norm(x, block["LayerNorm_0"], config)
        q, k, v = (
            np.einsum("lD,DHh->Hlh", y, attention[name]["kernel"]) + attention[name]["bias"][:, None]
            for name in ("query", "key", "value")
        )
        scores = np.where(mask, np.einsum("Hqh,Hkh->Hqk", q, k) / q.shape[-1] ** 0.5, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("Hqk,Hkh->qHh", weights, v)
        x = x + np.einsum("qHh,HhD->qD", mixed, attention["out"]["kernel"]) + attention["out"]["bias"]
        y = _norm(x, block["LayerNorm_1"], config) @ mlp["Dense_0"]["kernel"] + mlp["Dense_0"]["bias"]
        y = y / (1 + np.exp(-1.702 * y))  # quick_gelu
        x = x + y @ mlp["Dense_1"]["kernel"] + mlp["Dense_1"]["bias"]
    x = _norm(x, p["Encoder_0"]["encoder_norm"], config)
    return x[-1] @ p["head"]["kernel"] + p["head"].get("bias", 0.0)


def _norm(x, params, config):
    y = x - x.mean(-1, keepdims=True)
    return y / np.sqrt(y.var(-1, keepdims=True) + config.norm_epsilon) * params["scale"] + params["bias"]
