"""One training step of the embedded models: parameters, loss, optimizer, and what makes it fast on a CPU."""

import ctypes
import platform
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax.sharding import NamedSharding, PartitionSpec
from optax.contrib import MuonDimensionNumbers
from training_blocks import Dense, exact_dense, fast_blocks
from training_words import CONTEXT, WORD

from jaxalign.models import TextTower, TwoTowers

MEAN, STD = 0.5, 0.5
ADAM_RATE = 0.6  # times Muon's rate
Params = Any
Batch = tuple[jax.Array | np.ndarray, jax.Array | np.ndarray, jax.Array | np.ndarray]  # pixels, tokens, kept


class Schedule(Protocol):
    """What of the training's settings the optimizer depends on."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def projector_decay(self) -> bool: ...
    @property
    def warmup(self) -> int: ...
    @property
    def descent(self) -> int: ...


def keep_freed_memory() -> None:
    """Have the C library keep what one step frees for the next.

    By default the memory of a step's intermediate values goes back to the system each time, and to have its
    pages cleared again is a fifth of a step's processor time (0.21 of 1.08 s, batch 256).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # malloc.h
    for option, value in ((trim_threshold, -1), (mmap_max, 0), (arena_max, 1)):
        ctypes.CDLL(None).mallopt(option, value)


class WordVectors(NamedTuple):
    """The fixed part of the token embeddings.

    Attributes:
      basis: float32 [vocabulary, WORD].
      row: int32 [vocabulary], each word's row among those that are learned; `learned` for a word without one.
      learned: how many words learn a vector of their own.
    """

    basis: jax.Array
    row: jax.Array
    learned: int

    @classmethod
    def of(cls, basis: np.ndarray, learns: np.ndarray) -> "WordVectors":
        """From vectors [vocabulary, WORD] and a mask [vocabulary, 1] of the words that learn their own."""
        learned = learns[:, 0] > 0
        row = np.where(learned, np.cumsum(learned) - 1, learned.sum()).astype(np.int32)
        return cls(jnp.asarray(basis), jnp.asarray(row), int(learned.sum()))

    def embed(self, words: Params, tokens: jax.Array) -> jax.Array:
        """Embeddings [..., width] of `tokens` int [...], at the cost of these alone."""
        own = words["own"].at[self.row[tokens]].get(mode="fill", fill_value=0)
        return self.basis[tokens] @ words["map"] + own


def with_embedding(params: Params, vectors: WordVectors) -> Params:
    """The model's parameters: the token embeddings put together from fixed vectors and what is learned."""
    table = vectors.embed(params["words"], jnp.arange(len(vectors.basis)))
    model = params["model"]
    return model | {"txt": model["txt"] | {"Embed_0": {"embedding": table}}}


def without_embedding(params: Params, vectors: WordVectors) -> Params:
    """Parameters of a run whose model, by `with_embedding`, has `params`.

    The linear map is fitted to the words that have no vector of their own: the others' are what is left.
    """
    model = dict(params)
    table = np.asarray(params["txt"]["Embed_0"]["embedding"], np.float64)
    basis, learned = np.asarray(vectors.basis, np.float64), np.asarray(vectors.row) < vectors.learned
    word_map = np.linalg.lstsq(basis[~learned], table[~learned])[0]
    own = (table - basis @ word_map)[learned]
    model["txt"] = {name: x for name, x in params["txt"].items() if name != "Embed_0"}
    words = {"map": jnp.asarray(word_map, jnp.float32), "own": jnp.asarray(own, jnp.float32)}
    return {"model": jax.tree.map(jnp.asarray, model), "words": words}


def contrastive_loss(zimg: jax.Array, ztxt: jax.Array, t: jax.Array, b: jax.Array | None) -> jax.Array:
    """CLIP's symmetric softmax loss, or SigLIP's sigmoid loss where a bias is given."""
    zimg, ztxt = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (zimg, ztxt))
    logits = jnp.exp(t) * zimg @ ztxt.T
    if b is not None:
        signs = 2 * jnp.eye(len(logits)) - 1
        return -jax.nn.log_sigmoid(signs * (logits + b)).sum() / len(logits)
    rows, columns = (jnp.diag(jax.nn.log_softmax(logits, axis)).mean() for axis in (1, 0))
    return -(rows + columns) / 2


def batch_loss(
    model: TwoTowers,
    params: Params,
    vectors: WordVectors,
    batch: Batch,
    dense: Dense = exact_dense,
    axis: str | None = None,
) -> jax.Array:
    """The loss of pixels uint8 [b, side, side, 3], tokens int32 [b, CONTEXT], kept patches int32 [b, k].

    With the name of a mesh's `axis`, these are one device's part of the batch, and the loss is that of all.
    """
    pixels, tokens, kept = map(jnp.asarray, batch)
    pixels = (pixels.astype(jnp.float32) / 255 - MEAN) / STD
    p, embedded = params["model"], vectors.embed(params["words"], tokens)

    def embed_tokens(call, args, kwargs, context):
        is_embed = isinstance(context.module, TextTower) and context.method_name == "embed"
        return embedded if is_embed else call(*args, **kwargs)

    with fast_blocks(dense), nn.intercept_methods(embed_tokens):
        zimg, _ = model.apply({"params": p}, pixels, kept, method=lambda m, x, k: m.img(x, kept_patches=k))
        ztxt, _ = model.apply({"params": p}, tokens, method=lambda m, x: m.txt(x))
    if axis is not None:
        zimg, ztxt = (jax.lax.all_gather(z, axis, tiled=True) for z in (zimg, ztxt))
    scale = jnp.minimum(p["t"][0], jnp.log(100.0))
    return contrastive_loss(zimg, ztxt, scale, p["b"][0] if "b" in p else None)


def make_step(
    model: TwoTowers,
    optimizer: optax.GradientTransformation,
    vectors: WordVectors,
    dense: Dense = exact_dense,
) -> Callable:
    """The jitted training step: (params, state, *batch) -> (params, state, loss); donates the first two.

    Each device of JAX computes an equal part of the batch.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    whole, part = PartitionSpec(), PartitionSpec("batch")
    replicated = NamedSharding(mesh, whole)
    arrays = jax.device_put(
        vectors[:2], replicated
    )  # arguments: as constants they would be copied into the program

    def step(arrays, params, state, *batch):
        constant = WordVectors(arrays[0], arrays[1], vectors.learned)
        # every device differentiates the loss of all, with respect to its own part
        loss = lambda params: batch_loss(model, params, constant, batch, dense, "batch") / mesh.size
        value, gradients = jax.lax.psum(jax.value_and_grad(loss)(params), "batch")
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(whole, whole, whole, part, part, part),
        out_specs=whole,
        check_vma=False,
    )
    compiled = jax.jit(mapped, donate_argnums=(1, 2))

    def call(params, state, *batch):
        params, state = jax.device_put((params, state), replicated)
        return compiled(arrays, params, state, *jax.device_put(batch, NamedSharding(mesh, part)))

    return call


def make_optimizer(t: Schedule) -> optax.GradientTransformation:
    """Muon for the linear maps between hidden layers, Adam for all else, both with decoupled weight decay.

    The rate rises over `warmup` steps, is constant, and falls to zero over the last `descent` steps: a run
    can be made longer until then.
    """
    rise = optax.linear_schedule(0, t.learning_rate, t.warmup)
    fall = optax.linear_schedule(t.learning_rate, 0, t.descent, t.steps - t.descent - t.warmup)
    rate = optax.join_schedules([rise, fall], [t.warmup])

    def decays(path: tuple, x: jax.Array) -> bool:
        return x.ndim > 1 and (t.projector_decay or jax.tree_util.DictKey("head") not in path)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.contrib.muon(
            1.0,
            ns_steps=4,
            preconditioning="aol",
            adam_b2=0.98,
            adam_learning_rate=ADAM_RATE,
            muon_weight_dimension_numbers=partial(jax.tree_util.tree_map_with_path, linear_map),
            consistent_rms=0.2,
        ),
        optax.add_decayed_weights(-t.weight_decay, partial(jax.tree_util.tree_map_with_path, decays)),
        optax.scale_by_schedule(rate),
    )


def linear_map(path: tuple, x: jax.Array) -> MuonDimensionNumbers | None:
    """Axes of input and output of a linear map between hidden layers; None for every other parameter."""
    names = [entry.key for entry in path]
    if names[-1] != "kernel" or names[-2] in ("embedding", "head"):
        return None
    if x.ndim == 2:
        return MuonDimensionNumbers(0, 1)
    return MuonDimensionNumbers((0, 1), 2) if names[-2] == "out" else MuonDimensionNumbers(0, (1, 2))


def initial_params(model: TwoTowers, seed: int, learned: int) -> Params:
    """Random parameters."""
    image, text = model.config.image, model.config.text
    assert text is not None
    side, width = image.image_size, text.width
    shapes = (jnp.zeros((1, side, side, 3)), jnp.zeros((1, CONTEXT), jnp.int32))
    params = model.init(jax.random.key(seed), *shapes)["params"]
    params["txt"].pop("Embed_0")
    wide = jax.nn.initializers.orthogonal()(
        jax.random.key(seed), (WORD, width)
    )  # lengths and angles are kept
    word_map = jnp.eye(WORD) if width == WORD else wide
    return {"model": params, "words": {"map": word_map, "own": jnp.zeros((learned, width))}}
