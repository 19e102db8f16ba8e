"""Fill a feature store: decoding on threads ahead of the device, chunk after chunk.

A batch always holds the same examples, wherever an earlier run stopped, so that what comes out does not
depend on interruptions, to the bit. It is divided over all devices of the process; of several processes each
computes chunks of its own, and needs no other for them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import jax
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, printable, unknown_name
from jaxalign.eval.processes import as_first, own_share, wait_for_all
from jaxalign.inputs.image_files import quiet_pillow
from jaxalign.sharding import AXIS, data_mesh, divide_rows, shard_parameters

from .store import FeatureStore

BATCH = 32  # small activations stay in the cache of a CPU; an accelerator wants more
AHEAD = 3  # batches that are decoded before the device asks for them
THREADS = 8

Unreadable = Literal["fail", "leave-out"]


class Images(Protocol):
    """Images that are read when asked for, each as `ImageProcessor` takes it.

    Those that have a method `opened` (`datasets.images.Images`) keep within its bound of memory.
    """

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Embedded:
    """What this process did: chunks computed now, examples in them, and those of them that were left out."""

    chunks: int
    examples: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Batch:
    chunk: int
    rows: range
    inputs: list[Future]


def embed_images(
    model: DualEncoder,
    images: Images,
    store: FeatureStore,
    *,
    names: Sequence[str] | None = None,
    unreadable: Unreadable = "fail",
    batch_size: int = BATCH,
    threads: int = THREADS,
    advance: Callable[[int], None] = lambda count: None,
) -> Embedded:
    """Compute the pre-projection features that `store` lacks.

    Args:
      images: in the order of the store's ids.
      names: what messages call them; by default the ids.
      unreadable: `fail` stops at an image that cannot be read, also at one that an earlier run left out;
        `leave-out` stores a row of NaN for it. Which ones, `jaxalign.inputs.image_files` says; one that this
        machine lacks the memory for always stops.
      batch_size: images that pass through the tower together, on each device.
      threads: that read, decode and resize.
      advance: is told how many examples are done, those of earlier runs first.

    Raises:
      JaxalignError: an unreadable image or one whose features are not finite, by its id, or a store that
        another process fills.
    """

    if unreadable not in get_args(Unreadable):
        raise unknown_name("treatment of unreadable images", unreadable, get_args(Unreadable))
    processor = model.image_processor

    def prepare(row: int) -> np.ndarray | None:
        try:
            with open_image(images, row) as image:
                return processor([image])[0]
        except JaxalignError as error:
            if unreadable == "leave-out" and not isinstance(error.__cause__, MemoryError):
                return None
            reason = str(error).removeprefix("image 0").lstrip(" :")
            name = printable((store.ids if names is None else names)[row])
            named = reason if reason.startswith(name) else f"{name}: {reason}"
            raise JaxalignError(
                f"{named}; repair it, or leave such images out (--unreadable leave-out)"
            ) from error

    size = processor.size
    empty = np.zeros((size, size, 3), np.float32)
    # Compiled once for a model's sizes by the model itself, whatever is embedded after this.
    forward = lambda params, pixels: model.apply_image(params, pixels, projected=False)
    missing = lambda among: store.missing(left_out=unreadable == "fail", among=among)
    with quiet_pillow:
        tower = Tower(forward, model.params, "img")
        return _fill(store, missing, prepare, empty, tower, batch_size, threads, advance)


def open_image(images: Images, row: int) -> AbstractContextManager[Any]:
    """One of the images, which may be dropped when the block ends."""
    opened = getattr(images, "opened", None)
    return nullcontext(images[row]) if opened is None else opened(row)


def embed_texts(
    model: DualEncoder,
    texts: Sequence[str],
    store: FeatureStore,
    *,
    batch_size: int = BATCH,
    advance: Callable[[int], None] = lambda count: None,
) -> Embedded:
    """The same for texts, in the order of the store's ids; raises JaxalignError without a tokenizer."""
    tokens = model.require_tokenizer()(texts)
    forward = lambda params, ids: model.apply_text(params, ids, projected=False)
    tower = Tower(forward, model.params, "txt")
    missing = lambda among: store.missing(among=among)
    return _fill(store, missing, tokens.__getitem__, tokens[0], tower, batch_size, 1, advance)


class Tower:
    """`forward(params, batch)` on all devices of this process; `part` names the parameters that it needs."""

    def __init__(self, forward: Callable[[Any, Any], jax.Array], params: Any, part: str):
        self._forward, self._params, self._mesh = forward, params, data_mesh(jax.local_devices())
        if self._mesh is not None:
            self._params = shard_parameters({part: params[part]}, self._mesh)

    @property
    def devices(self) -> int:
        return 1 if self._mesh is None else self._mesh.shape[AXIS]

    def __call__(self, batch: np.ndarray) -> jax.Array:
        return self._forward(self._params, batch if self._mesh is None else divide_rows(batch, self._mesh))


def _fill(
    store: FeatureStore,
    find_missing: Callable[[list[int] | None], list[int]],
    prepare: Callable[[int], np.ndarray | None],
    empty: np.ndarray,
    tower: Tower,
    batch_size: int,
    threads: int,
    advance: Callable[[int], None],
) -> Embedded:
    for name, number in (("batch_size", batch_size), ("threads", threads)):
        if number < 1:
            raise JaxalignError(f"{name} is {number}; expected 1 or more")
    missing = find_missing(None)
    if as_first(not missing):  # whoever only reads waits for nobody, and need not be able to write
        advance(store.rows)
        return Embedded(0, 0, ())
    with ExitStack() as stack:
        stack.enter_context(store.locked())
        missing = find_missing(missing)
        mine = own_share(missing, "missing chunks")
        all_examples, examples = (sum(len(store.rows_of(c)) for c in chunks) for chunks in (missing, mine))
        advance(store.rows - all_examples)
        pool = ThreadPoolExecutor(threads)
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        left_out: list[str] = []
        parts: list[np.ndarray] = []
        batch_size = tower.devices * min(batch_size, len(store.rows_of(0)), -(-store.chunk // tower.devices))
        batches = _prepared(store, mine, prepare, pool, batch_size)
        padding = [empty] * batch_size  # one shape, whatever is missing
        for batch, output in _encode(batches, tower, padding, store.ids):
            left_out += [store.ids[batch.rows[i]] for i in np.flatnonzero(np.isnan(output[:, 0]))]
            parts.append(output)
            if batch.rows.stop == store.rows_of(batch.chunk).stop:
                store.write(batch.chunk, np.concatenate(parts))
                parts = []
            advance(len(batch.rows))
        wait_for_all("filled")
        if examples < all_examples:
            advance(all_examples - examples)
    return Embedded(len(mine), examples, tuple(left_out))


def _prepared(
    store: FeatureStore,
    chunks: Sequence[int],
    prepare: Callable[[int], np.ndarray | None],
    pool: ThreadPoolExecutor,
    batch_size: int,
) -> Iterator[_Batch]:
    """Batches in order; the next ones are on the threads already."""
    waiting: deque[_Batch] = deque()
    for chunk in chunks:
        rows = store.rows_of(chunk)
        for start in range(rows.start, rows.stop, batch_size):
            batch = range(start, min(start + batch_size, rows.stop))
            waiting.append(_Batch(chunk, batch, [pool.submit(prepare, row) for row in batch]))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
    yield from waiting


def _encode(
    batches: Iterator[_Batch],
    tower: Tower,
    padding: list[np.ndarray],
    ids: Sequence[str],
) -> Iterator[tuple[_Batch, np.ndarray]]:
    """Features of each batch; one is fetched only after the next one has been given to the device."""
    before: tuple[_Batch, np.ndarray, jax.Array] | None = None
    for batch in batches:
        try:
            inputs = [future.result() for future in batch.inputs]
        except JaxalignError:
            if before is not None:  # on the device already: nothing that was computed is lost
                yield _finish(*before, ids)
            raise
        lost = np.array([x is None for x in inputs])
        inputs = [padding[0] if x is None else x for x in inputs] + padding[len(inputs) :]
        output = tower(np.stack(inputs))
        if before is not None:
            yield _finish(*before, ids)
        before = (batch, lost, output)
    if before is not None:
        yield _finish(*before, ids)


def _finish(
    batch: _Batch, lost: np.ndarray, output: jax.Array, ids: Sequence[str]
) -> tuple[_Batch, np.ndarray]:
    values = np.array(output, np.float32)[: len(batch.rows)]
    wrong = ~np.isfinite(values).all(axis=1) & ~lost
    if wrong.any():
        raise JaxalignError(
            f"{ids[batch.rows[int(wrong.argmax())]]} has features that are NaN or infinite; compute in"
            " float32 (--dtype float32)"
        )
    values[lost] = np.nan
    return batch, values
