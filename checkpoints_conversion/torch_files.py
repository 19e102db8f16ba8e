"""`.pt`, `.pth`, `.bin`: PyTorch's files (zip, TorchScript, the older format), read with NumPy alone."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.local_files import cannot_read, open_regular
from jaxalign.weights.inert_pickle import LIMIT, Unpickled, unpickle
from jaxalign.weights.stored import Span, StoredTensor, array_parts, most_unpacked, named_object, plausible

from .torch_pickle import Storage, TensorRecord, as_pairs, as_storage, find_weights, strange_names
from .zip_members import open_archive

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_ZIP_MAGIC = b"PK\x03\x04"
_TAR_MAGIC, _TAR_AT = b"ustar", 257


def read_torch(path: Path, alone: bool = False) -> dict[str, StoredTensor]:
    """The tensors of a state dict, alone or as training scripts wrap it, or of a TorchScript archive.

    Nothing in the file is executed, whatever it asks for: an object that is no tensor has a name, and that of
    its class in the place of a dtype; in a list it has none, and matters where tensors are to be `alone`.

    Raises:
      JaxalignError: what is no regular file, a damaged one, one without tensors, or not with these `alone`.
    """
    with open_regular(path) as file:
        is_zip = file.read(4) == _ZIP_MAGIC
    tensors, strange = _read_zip(path) if is_zip else _read_legacy(path)
    objects = any(tensor.is_object for tensor in tensors.values())  # which have names to be refused by
    if alone and strange and not objects:
        raise JaxalignError(
            f"{path}: beside its tensors it asks for {', '.join(strange[:3]):.200}, which could run code;"
            " nothing was executed: save tensors alone"
        )
    return plausible(tensors, path)


def _read_zip(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """Its tensors, and the names that it asks for and no tensor needs."""
    with open_archive(path) as archive:
        pickles = [n for n in archive.members if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(pickles) != 1:
            raise JaxalignError("the archive has no data.pkl; expected a file that torch.save wrote")
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.members and archive.read(order, 10) != b"little":
            raise JaxalignError("it was written on a big-endian machine; save it again on another one")
        content = archive.read(pickles[0], LIMIT)
        pickled = unpickle(io.BytesIO(content), len(content))

        def place(storage: Storage) -> Span | None:
            name = f"{root}data/{storage.key}"
            return archive.place(name) if name in archive.members else None

        return _tensors(pickled, place, path), strange_names(pickled.names)


def _read_legacy(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """The same of PyTorch's older format."""
    with open_regular(path) as file:
        try:
            size = file.seek(0, io.SEEK_END)
            file.seek(_TAR_AT)
            if file.read(len(_TAR_MAGIC)) == _TAR_MAGIC:
                raise JaxalignError("it is a tar file of PyTorch before 0.2; save it again with a later one")
            file.seek(0)
            return _read_pickles(file, path, size)
        except JaxalignError as error:
            raise JaxalignError(f"{path} is damaged or no file that torch.save wrote: {error}") from error
        except OSError as error:
            raise cannot_read(path, error) from error


def _read_pickles(file: BinaryIO, path: Path, size: int) -> tuple[dict[str, StoredTensor], list[str]]:
    """Pickles one after the other (magic, version, platform, content, keys), then the storages' bytes."""
    read = lambda: unpickle(file, size - file.tell())
    for expected in (_LEGACY_MAGIC, _LEGACY_VERSION):
        found = read().value
        if type(found) is not int or found != expected:
            raise JaxalignError("it begins with something else, or is of another version")
    platform = as_pairs(read().value)
    if platform is None or platform.by_name().get("little_endian", True) is not True:
        raise JaxalignError("it was written on a big-endian machine; save it again on another one")
    pickled, keys = read(), read().value
    storages = {found.key: found for found in map(as_storage, pickled.persistent) if found}
    places: dict[str, Span] = {}
    for key in keys if type(keys) is list else ():
        if type(key) is not str or key not in storages or key in places:
            raise JaxalignError("it has a storage that no tensor uses, or of an unknown kind")
        count = int.from_bytes(file.read(8), "little")
        length = count * jnp.dtype(storages[key].dtype).itemsize
        places[key] = Span(path, file.tell(), length)
        if places[key].offset + length > size:
            raise JaxalignError("it ends before its last storage does")
        file.seek(length, io.SEEK_CUR)
    tensors = _tensors(pickled, lambda storage: places.get(storage.key), path)
    return tensors, strange_names(pickled.names)


def _tensors(
    pickled: Unpickled, place: Callable[[Storage], Span | None], path: Path
) -> dict[str, StoredTensor]:
    """What the state dict in a pickle holds; `place` says where in the file a storage is."""
    found = find_weights(pickled.value)
    uses = Counter(record.storage for record in found.values() if isinstance(record, TensorRecord))
    if not uses:
        strange = ", ".join(strange_names(pickled.names)[:3])
        asks = (
            f" (its pickle asks for {strange}, which could run code; nothing was executed)" if strange else ""
        )
        raise JaxalignError(f"it has no tensors by name{asks}; expected what model.state_dict() gives")
    places, verify = {storage: place(storage) for storage in uses}, cache(Span.verify)

    def stored(record: TensorRecord) -> StoredTensor:
        storage, shape = record.storage, record.shape
        size, lies = jnp.dtype(storage.dtype).itemsize, places[storage]
        if lies is None or lies.length != storage.count * size:
            raise JaxalignError(f"damaged: storage {storage.key!r:.40} is missing or of another size")
        if 0 in shape:
            return lies.tensor(shape, storage.dtype)
        if record.lies_in_order and uses[storage] == 1:
            return lies.tensor(shape, storage.dtype, record.offset * size)
        return _view(record, lies, lambda: verify(lies))

    tensors = {
        name: stored(record) if isinstance(record, TensorRecord) else named_object(record)
        for name, record in found.items()
    }
    _check_views((record for record in found.values() if isinstance(record, TensorRecord)), path)
    return tensors


def _check_views(records: Iterable[TensorRecord], path: Path) -> None:
    """Of a view all is read that lies between its first and its last element: so much for each of many views
    takes hours."""
    spread = sum(
        (record.last - record.offset + 1) * jnp.dtype(record.storage.dtype).itemsize
        for record in records
        if 0 not in record.shape and not record.lies_in_order
    )
    limit = most_unpacked(path.stat().st_size)
    if spread > limit:
        raise JaxalignError(
            f"its views reach over {spread:,} bytes; expected at most {limit:,}: save it without views"
        )


def _view(record: TensorRecord, place: Span, verify: Callable[[], None]) -> StoredTensor:
    """A part of a storage, or one in another order. The checksum is that of all, so it is compared apart."""
    shape, dtype = record.shape, record.storage.dtype
    size, between = jnp.dtype(dtype).itemsize, record.last - record.offset + 1
    window = replace(place, checksum=None).tensor((between,), dtype, record.offset * size)

    def parts(elements: int) -> Iterator[np.ndarray]:
        verify()
        if record.lies_in_order:
            yield from window.parts(elements)
            return
        strides = [s * size if n > 1 else 0 for n, s in zip(shape, record.strides, strict=True)]
        array = np.lib.stride_tricks.as_strided(window.read(), shape, strides, writeable=False)
        yield from array_parts(array, elements)

    return StoredTensor(shape, dtype, parts)
