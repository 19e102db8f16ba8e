"""Pickles written by hand, instruction by instruction: what no pickler writes."""

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np


def text(content: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(content.encode())) + content.encode()


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG4 + struct.pack("<i", len(content)) + content


def numbers(*values: int) -> bytes:
    return row(*map(number, values))


def row(*items: bytes) -> bytes:
    """A tuple."""
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def name(full: str) -> bytes:
    module, _, attribute = full.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def call(full: str, *arguments: bytes) -> bytes:
    return name(full) + row(*arguments) + pickle.REDUCE


def mapping(**items: bytes) -> bytes:
    return pickle.EMPTY_DICT + b"".join(text(key) + value + pickle.SETITEM for key, value in items.items())


def remember(at: int) -> bytes:
    """Stores the last value, which goes."""
    return pickle.LONG_BINPUT + struct.pack("<I", at) + pickle.POP


def recall(at: int) -> bytes:
    return pickle.LONG_BINGET + struct.pack("<I", at)


def program(content: bytes, protocol: int = 2) -> bytes:
    return pickle.PROTO + bytes([protocol]) + content + pickle.STOP


def storage(count: int, key: str = "0", kind: str = "torch.FloatStorage") -> bytes:
    return row(text("storage"), name(kind), text(key), text("cpu"), number(count)) + pickle.BINPERSID


def tensor(
    shape: bytes, strides: bytes, offset: bytes = number(0), held: bytes = storage(4), *more: bytes
) -> bytes:
    hooks = more or (pickle.NEWFALSE, call("collections.OrderedDict"))
    return call("torch._utils._rebuild_tensor_v2", held, offset, shape, strides, *hooks)


LEGACY = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
VECTOR = tensor(numbers(4), numbers(1))


def pickled(value, protocol: int) -> bytes:
    """The instructions that make `value`."""
    return pickle.dumps(value, protocol)[2 if protocol else 0 : -1]


def torch_zip(path: Path, content: bytes, **storages: np.ndarray) -> Path:
    """An archive as torch.save writes it, with `content` as its pickle; storage "0" has four numbers."""
    held = {"0": np.arange(4, dtype=np.float32)} | {key.removeprefix("_"): x for key, x in storages.items()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for key, numbers_ in held.items():
            archive.writestr(f"archive/data/{key}", numbers_.tobytes())
    return path


def legacy(path: Path, content: bytes, keys=("0",), count: int = 4) -> Path:
    after = pickle.dumps(list(keys), 2) + struct.pack("<q", count) + np.arange(4, dtype=np.float32).tobytes()
    path.write_bytes(b"".join(LEGACY) + content + after)
    return path
