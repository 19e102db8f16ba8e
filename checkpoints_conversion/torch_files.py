"""`.pt`, `.pth`, `.bin`: PyTorch's files (zip, TorchScript, the older format), read with NumPy alone."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.stored import Span, StoredTensor, array_parts

from .torch_pickle import DAMAGED, TensorRecord, find_tensors, unpickle
from .zip_members import find_member

_WRAPPERS = ("state_dict", "model", "module", "model_state_dict")  # what training scripts put weights under
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ZIP_MAGIC = b"PK\x03\x04"


def read_torch(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a state dict, alone or as training scripts wrap it, or of a TorchScript archive.

    Nothing in the file is executed, whatever it asks for.

    Raises:
      JaxalignError: a damaged file, or one whose pickle asks for code.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == _ZIP_MAGIC
            file.seek(0)
            return _read_zip(file, path) if is_zip else _read_legacy(file, path)
    except JaxalignError as error:
        raise JaxalignError(f"{path}: {error}") from error
    except zipfile.BadZipFile as error:
        raise JaxalignError(f"{path} is cut off or damaged: {error}") from error
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except (*DAMAGED, NotImplementedError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JaxalignError(f"{path} is damaged or no checkpoint of PyTorch: {reason:.200}") from error


def _unwrap(content: Any) -> Any:
    """The state dict in what a training script saved."""
    for _ in range(3):
        inner = next((content[w] for w in _WRAPPERS if isinstance(content, dict) and w in content), None)
        if not isinstance(inner, dict):
            break
        content = inner
    return content


def _read_zip(file: BinaryIO, path: Path) -> dict[str, StoredTensor]:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise JaxalignError("the archive has no data.pkl; expected a file that torch.save wrote")
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in members and archive.read(order) != b"little":
            raise JaxalignError("it was written on a big-endian machine; save it again on another one")
        content = unpickle(io.BytesIO(archive.read(pickles[0])))
        members = {n.removeprefix(f"{root}data/"): info for n, info in members.items() if n != f"{root}data/"}
        places = {name: find_member(file, path, info) for name, info in members.items()}
    records = find_tensors(content, _unwrap)
    return {name: _stored(record, places.get(record.storage.key)) for name, record in records.items()}


def _read_legacy(file: BinaryIO, path: Path) -> dict[str, StoredTensor]:
    """Pickles one after the other (magic, version, platform, content, keys), then the storages' bytes."""
    if unpickle(file) != _LEGACY_MAGIC:
        raise JaxalignError("expected a file that torch.save wrote")
    version, platform, content, keys = (unpickle(file) for _ in range(4))
    if version != 1001 or not platform.get("little_endian", True):
        raise JaxalignError(f"it is of version {version!r:.20}; save it again with a later PyTorch")
    records = find_tensors(content, _unwrap)
    sizes = {r.storage.key: r.storage for r in _all_records(content)}
    places: dict[str, Span] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        length = count * jnp.dtype(sizes[key].dtype).itemsize
        places[key] = Span(path, file.tell(), length)
        file.seek(length, io.SEEK_CUR)
    return {name: _stored(record, places.get(record.storage.key)) for name, record in records.items()}


def _all_records(content: Any) -> list[TensorRecord]:
    """Also those beside the state dict: an optimiser's storages lie between the model's."""
    found, stack, visited = [], [content], set()
    while stack:
        node = stack.pop()
        if isinstance(node, TensorRecord):
            found.append(node)
        elif isinstance(node, dict | list | tuple) and id(node) not in visited:
            visited.add(id(node))
            stack += node.values() if isinstance(node, dict) else node
    return found


def _stored(record: TensorRecord, place: Span | None) -> StoredTensor:
    """The tensor of `record`, whose storage is at `place`."""
    storage, shape = record.storage, record.shape
    itemsize = jnp.dtype(storage.dtype).itemsize
    if place is None or place.length != storage.count * itemsize or len(record.strides) != len(shape):
        raise JaxalignError(f"damaged: storage {storage.key!r:.40} is missing or of another size")
    last = record.offset + sum((n - 1) * s for n, s in zip(shape, record.strides, strict=True))
    if 0 not in shape and last >= storage.count:
        raise JaxalignError(f"damaged: a tensor of shape {shape} reaches beyond its storage")
    if 0 in shape or _lies_in_order(record):
        return place.tensor(shape, storage.dtype, skip=record.offset * itemsize)

    def parts(elements: int) -> Iterator[np.ndarray]:
        flat = place.tensor((storage.count,), storage.dtype).read()[record.offset :]
        strides = tuple(s * itemsize for s in record.strides)
        array = np.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)
        return array_parts(array, elements)

    return StoredTensor(shape, storage.dtype, parts)


def _lies_in_order(record: TensorRecord) -> bool:
    """Whether its elements lie one after the other, as those of all but views do."""
    expected = 1
    for n, stride in zip(reversed(record.shape), reversed(record.strides), strict=True):
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True
