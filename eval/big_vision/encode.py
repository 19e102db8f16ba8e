"""Images and texts through a trainer's `predict_fn`, on all of its devices."""

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxalign as ja
from jaxalign.errors import JaxalignError

from .heads import pre_projection, read_projectors

PredictFn = Callable[[Any, Mapping[str, Any]], Any]
AXIS = "devices"
PADDING = -1  # the row of what only fills a batch


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Embeddings `[n, d]`, not normalised, and pre-projection features `[n, d_image]`; float32 NumPy."""

    embeddings: np.ndarray
    pre: np.ndarray


class Encoder:
    """Runs `predict_fn` as big_vision's siglip trainer hands it to its evaluators.

    Each process reads its part of every batch and all take the same number of steps, whatever the number of
    examples; what comes back is the same on all of them. Compiled when first used, once for all evaluators
    of a `predict_fn`.

    Args:
      predict_fn: `(train_state, batch) -> (zimg, ztxt, out)` of a two-tower, batch with `image` or `labels`
        (token ids); `train_state["params"]` are the parameters.
      batch_size: of all devices together.
      devices: of all processes.

    Raises:
      JaxalignError: a batch that does not divide over devices and processes.
    """

    def __init__(self, predict_fn: PredictFn, batch_size: int | None, devices: Any):
        self._predict, self._mesh = predict_fn, Mesh(np.asarray(devices).reshape(-1), (AXIS,))
        count = self._mesh.size
        if not batch_size or batch_size % count:
            raise JaxalignError(
                f"batch_size is {batch_size}; expected a multiple of the {count} devices: give the"
                " evaluator one of its own"
            )
        self._batch_size = batch_size

    def images(self, train_state: Any, images: Any, processor: ja.ImageProcessor) -> ImageFeatures:
        """Features of images: uint8 `[n, h, w, 3]` or a sequence of what `processor` takes."""

        prepare = lambda rows: processor(images[rows], start=rows.start)
        empty = np.zeros((0, processor.size, processor.size, 3), np.float32)
        encode = image_encoder(self._predict, self._mesh)
        found = self._run(encode, train_state, len(images), prepare, empty)
        return ImageFeatures(found["embeddings"], found["pre"])

    def texts(self, train_state: Any, tokens: np.ndarray) -> np.ndarray:
        """Embeddings float32 `[n, d]`, not normalised, of token ids int `[n, context]`."""
        encode = text_encoder(self._predict, self._mesh)
        prepare = lambda rows: np.asarray(tokens[rows], np.int32)
        return self._run(encode, train_state, len(tokens), prepare, prepare(slice(0, 0)))["embeddings"]

    def projectors(self, train_state: Any) -> ja.Projectors:
        """The heads, on the host."""
        return jax.device_get(projector_reader(self._mesh)(train_state["params"]))

    def _run(
        self,
        encode: Callable,
        train_state: Any,
        count: int,
        prepare: Callable[[slice], np.ndarray],
        empty: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """All examples, in their order; the next batch is prepared while the devices work on one."""
        sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))
        out: dict[str, np.ndarray] = {}

        def place(found: dict[str, jax.Array]) -> None:
            arrays = jax.device_get(found)
            rows = arrays.pop("rows")
            for name, values in arrays.items():
                target = out.setdefault(name, np.empty((count, values.shape[1]), np.float32))
                target[rows[rows != PADDING]] = values[rows != PADDING]

        pending: dict[str, jax.Array] | None = None
        with ThreadPoolExecutor(1) as pool:
            for inputs, rows in _ahead(pool, self._local_batches(count), prepare, empty):
                with jax.transfer_guard_host_to_device("allow"):  # JAX takes it for implicit across processes
                    batch = [jax.make_array_from_process_local_data(sharding, x) for x in (inputs, rows)]
                found = encode(train_state, *batch)
                if pending is not None:
                    place(pending)
                pending = found
        if pending is not None:
            place(pending)
        return out

    def _local_batches(self, count: int) -> Iterator[tuple[slice, int]]:
        """The rows that this process reads of each batch, and how many it has to give."""
        local = self._batch_size // jax.process_count()
        end = -(-count // self._batch_size) * self._batch_size
        for start in range(jax.process_index() * local, end, self._batch_size):
            yield slice(min(start, count), min(start + local, count)), local


def _ahead(
    pool: ThreadPoolExecutor,
    batches: Iterator[tuple[slice, int]],
    prepare: Callable[[slice], np.ndarray],
    empty: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs `[local, ...]` and their rows int32 `[local]`, each batch made while the one before is used."""

    def make(rows: slice, size: int) -> tuple[np.ndarray, np.ndarray]:
        found = prepare(rows) if rows.stop > rows.start else empty
        missing = size - len(found)
        padded = np.concatenate([found, np.zeros((missing, *empty.shape[1:]), empty.dtype)])
        numbers = np.concatenate([np.arange(rows.start, rows.stop), np.full(missing, PADDING)])
        return padded, numbers.astype(np.int32)

    coming = None
    for rows, size in batches:
        ready, coming = coming, pool.submit(make, rows, size)
        if ready is not None:
            yield ready.result()
    if coming is not None:
        yield coming.result()


@functools.cache
def image_encoder(predict_fn: PredictFn, mesh: Mesh) -> Callable:
    """`(train_state, pixels, rows) -> {"embeddings", "pre", "rows"}`, each whole on every device."""

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def encode(train_state: Any, pixels: jax.Array, rows: jax.Array) -> dict[str, jax.Array]:
        zimg, _, out = predict_fn(train_state, {"image": pixels})
        embeddings = _unnormalised(zimg, out, "img")
        pre = pre_projection(train_state["params"], out)
        return {"embeddings": embeddings, "pre": pre, "rows": rows}

    return encode


@functools.cache
def text_encoder(predict_fn: PredictFn, mesh: Mesh) -> Callable:
    """`(train_state, tokens, rows) -> {"embeddings", "rows"}`, each whole on every device."""

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def encode(train_state: Any, tokens: jax.Array, rows: jax.Array) -> dict[str, jax.Array]:
        _, ztxt, out = predict_fn(train_state, {"labels": tokens})
        return {"embeddings": _unnormalised(ztxt, out, "txt"), "rows": rows}

    return encode


@functools.cache
def projector_reader(mesh: Mesh) -> Callable[[Any], ja.Projectors]:
    """`params -> Projectors`, whole on every device, however the parameters are sharded."""
    return jax.jit(read_projectors, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _unnormalised(z: jax.Array, out: Mapping[str, jax.Array], tower: str) -> jax.Array:
    """`two_towers` gives unit vectors and their lengths; NCM and PCA<- are defined on the vectors."""
    return jnp.asarray(z, jnp.float32) * jnp.asarray(out[f"{tower}/norm"], jnp.float32)
