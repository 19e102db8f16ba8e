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
from functools import partial
from typing import Any, Literal, Protocol, TypedDict, Unpack, get_args

import jax
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, printable, unknown_name
from jaxalign.eval.datasets.images import FileChangedError
from jaxalign.eval.processes import as_first, own_share, wait_for_all
from jaxalign.inputs.image_files import quiet_pillow
from jaxalign.sharding import AXIS, data_mesh, divide_rows, shard_parameters

from .store import FeatureStore, Place

BATCH = 32  # small activations stay in the cache of a CPU; an accelerator wants more
AHEAD = 3  # batches that are decoded before the device asks for them
THREADS = 8

Unreadable = Literal["fail", "leave-out"]
Progress = Callable[[int], None]


class Images(Protocol):
    """Images that are read when asked for, each as `ImageProcessor` takes it.

    Those that have a method `opened` (`datasets.images.Images`) keep within its bound of memory.
    """

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class _Batch:
    chunk: int
    rows: range
    inputs: list[Future]


class Computing(TypedDict, total=False):
    """Where features are, and how those that are not there are computed.

    Attributes:
      store: folder or URL of the feature stores; `default_store()` by default.
      batch_size: examples that pass through the tower together, on each device.
      progress: is told how many examples are done, those of earlier runs first.
      unreadable: of images, `fail` stops at one that cannot be read, also where an earlier run left it out;
        `leave-out` stores a row of NaN for it. Which ones, `jaxalign.inputs.image_files` says; one that this
        machine lacks the memory for, or that changes while it is read, always stops.
      threads: that read, decode and resize images.
    """

    store: Place
    batch_size: int
    progress: Progress
    unreadable: Unreadable
    threads: int


def check_computing(**computing: Unpack[Computing]) -> None:
    """Raise JaxalignError for what cannot be meant."""
    unreadable = computing.get("unreadable", "fail")
    if unreadable not in get_args(Unreadable):
        raise unknown_name("treatment of unreadable images", unreadable, get_args(Unreadable))
    for name in ("batch_size", "threads"):
        if (number := computing.get(name, 1)) < 1:
            raise JaxalignError(f"{name} is {number}; expected 1 or more")


def embed_images(
    model: DualEncoder,
    images: Images,
    into: FeatureStore,
    *,
    names: Sequence[str] | None = None,
    **computing: Unpack[Computing],
) -> None:
    """Compute the pre-projection features that the store `into` lacks.

    Args:
      images: in the order of the store's ids.
      names: what messages call them; by default the ids.
      computing: how.

    Raises:
      JaxalignError: an unreadable image or one whose features are not finite, by its id, or a store that
        another process fills.
    """
    check_computing(**computing)
    leaves_out = computing.get("unreadable") == "leave-out"
    processor, names = model.image_processor, into.ids if names is None else names

    def prepare(row: int) -> np.ndarray | None:
        try:
            with open_image(images, row) as image:
                return processor([image])[0]
        except FileChangedError:
            raise
        except JaxalignError as error:
            if leaves_out and not isinstance(error.__cause__, MemoryError):
                return None
            raise unreadable_image(names[row], error) from error

    with quiet_pillow:
        empty = np.zeros((processor.size, processor.size, 3), np.float32)
        missing = lambda among: into.missing(left_out=not leaves_out, among=among)
        # Compiled once for a model's sizes by the model itself, whatever is embedded after this.
        tower = Tower(partial(model.apply_image, projected=False), model.params, "img")
        _fill(into, names, missing, prepare, empty, tower, computing)


def unreadable_image(name: str, error: JaxalignError) -> JaxalignError:
    """The error for an image that cannot be read, and what to do about it."""
    reason, name = str(error).removeprefix("image 0").lstrip(" :"), printable(name)
    named = reason if reason.startswith(name) else f"{name}: {reason}"
    return JaxalignError(f"{named}; repair it, or leave such images out (--unreadable leave-out)")


def open_image(images: Images, row: int) -> AbstractContextManager[Any]:
    """One of the images, which may be dropped when the block ends."""
    opened = getattr(images, "opened", None)
    return nullcontext(images[row]) if opened is None else opened(row)


def embed_texts(
    model: DualEncoder, texts: Sequence[str], into: FeatureStore, **computing: Unpack[Computing]
) -> None:
    """The same for texts, in the order of the store's ids; raises JaxalignError without a tokenizer."""
    check_computing(**computing)
    tokens = model.require_tokenizer()(texts)
    tower = Tower(partial(model.apply_text, projected=False), model.params, "txt")
    missing = lambda among: into.missing(among=among)
    _fill(into, into.ids, missing, tokens.__getitem__, tokens[0], tower, {**computing, "threads": 1})


class Tower:
    """`forward(params, batch)` on all devices of this process; `part` names the parameters that it needs."""

    def __init__(self, forward: Callable[[Any, Any], jax.Array], params: Any, part: str):
        self.forward, self.params, self._mesh = forward, params, data_mesh(jax.local_devices())
        if self._mesh is not None:
            self.params = shard_parameters({part: params[part]}, self._mesh)

    @property
    def devices(self) -> int:
        return 1 if self._mesh is None else self._mesh.shape[AXIS]

    def place(self, batch: np.ndarray) -> Any:
        """A batch on the devices."""
        return batch if self._mesh is None else divide_rows(batch, self._mesh)


def _fill(
    store: FeatureStore,
    names: Sequence[str],
    find_missing: Callable[[list[int] | None], list[int]],
    prepare: Callable[[int], np.ndarray | None],
    empty: np.ndarray,
    tower: Tower,
    computing: Computing,
) -> None:
    advance = computing.get("progress", lambda count: None)
    missing = find_missing(None)
    if as_first(not missing):  # whoever only reads waits for nobody, and need not be able to write
        advance(store.rows)
        return
    with ExitStack() as stack:
        stack.enter_context(store.locked())
        missing = find_missing(missing)
        mine = own_share(missing, "missing chunks")
        all_examples, examples = (sum(len(store.rows_of(c)) for c in chunks) for chunks in (missing, mine))
        advance(store.rows - all_examples)
        pool = ThreadPoolExecutor(computing.get("threads", THREADS))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        parts: list[np.ndarray] = []
        most = min(
            computing.get("batch_size", BATCH), len(store.rows_of(0)), -(-store.chunk // tower.devices)
        )
        batches = _prepared(store, mine, prepare, pool, tower.devices * most)
        padding = [empty] * (tower.devices * most)  # one shape, whatever is missing
        for batch, output in _encode(batches, tower, padding, names):
            parts.append(output)
            if batch.rows.stop == store.rows_of(batch.chunk).stop:
                store.write(batch.chunk, np.concatenate(parts))
                parts = []
            advance(len(batch.rows))
        wait_for_all("filled")
        if examples < all_examples:
            advance(all_examples - examples)


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
    batches: Iterator[_Batch], tower: Tower, padding: list[np.ndarray], names: Sequence[str]
) -> Iterator[tuple[_Batch, np.ndarray]]:
    """Features of each batch; one is fetched only after the next one has been given to the device."""
    before: tuple[_Batch, np.ndarray, jax.Array] | None = None
    for batch in batches:
        try:
            inputs = [future.result() for future in batch.inputs]
        except JaxalignError:
            if before is not None:  # on the device already: nothing that was computed is lost
                yield _finish(*before, names)
            raise
        lost = np.array([x is None for x in inputs])
        inputs = [padding[0] if x is None else x for x in inputs] + padding[len(inputs) :]
        output = tower.forward(tower.params, tower.place(np.stack(inputs)))
        if before is not None:
            yield _finish(*before, names)
        before = (batch, lost, output)
    if before is not None:
        yield _finish(*before, names)


def _finish(
    batch: _Batch, lost: np.ndarray, output: jax.Array, names: Sequence[str]
) -> tuple[_Batch, np.ndarray]:
    values = np.array(output, np.float32)[: len(batch.rows)]
    wrong = ~np.isfinite(values).all(axis=1) & ~lost
    if wrong.any():
        raise JaxalignError(
            f"{names[batch.rows[int(wrong.argmax())]]} has features that are NaN or infinite; compute in"
            " float32 (--dtype float32)"
        )
    values[lost] = np.nan
    return batch, values
