"""Protocol buffers, as SentencePiece's models are: fields that are dropped, doubled, resized or replaced."""

import random
import struct

from .mutant import HOSTILE_TEXTS, pick_size
from .raw import mutate_bytes

Field = tuple[int, int, int | bytes]
"""Number, wire type and value."""

_MESSAGES = {1, 2, 3}  # pieces, trainer and normaliser: the fields of a SentencePiece model that are messages
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def mutate_protobuf(rng: random.Random, content: bytes, other: bytes = b"") -> tuple[str, bytes]:
    """The kind and the content of what a valid model becomes."""
    if rng.random() < 0.3:
        return "bytes", mutate_bytes(rng, content, other)
    fields = parse(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(fields))
        number, wire, value = fields[at]
        if number in _MESSAGES and isinstance(value, bytes) and rng.random() < 0.8:
            inner = parse(value)
            if inner:
                _change(rng, inner)
                fields[at] = number, wire, write(inner)
                continue
        _change(rng, fields)
    return "fields", write(fields)


def _change(rng: random.Random, fields: list[Field]) -> None:
    at = rng.randrange(len(fields))
    number, wire, value = fields[at]
    match rng.randrange(6):
        case 0:
            del fields[at]
            if not fields:
                fields.append((number, wire, value))
        case 1:
            fields[at:at] = [fields[at]] * rng.choice((1, 2, 500))
        case 2:
            fields[at] = rng.choice((number, 0, 200, 2**28)), wire, value
        case 3:
            other = rng.randrange(len(fields))
            fields[at], fields[other] = fields[other], fields[at]
        case _:
            fields[at] = number, wire, _other_value(rng, wire, value)


def _other_value(rng: random.Random, wire: int, value: int | bytes) -> int | bytes:
    if wire == VARINT:
        return pick_size(rng) % 2**64
    if wire == BYTES:
        text = rng.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")
        return rng.choice((text, b"", b"\xff\xfe", mutate_bytes(rng, bytes(value)), bytes(value) * 100))
    number = rng.choice((float("nan"), float("inf"), float("-inf"), 1e38, -1e38, 0.0))
    return struct.pack("<f" if wire == FIXED32 else "<d", number)


def parse(content: bytes) -> list[Field]:
    """The fields of a valid message."""
    fields: list[Field] = []
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(content, at)
        else:
            length, at = _varint(content, at) if wire == BYTES else (4 if wire == FIXED32 else 8, at)
            value, at = content[at : at + length], at + length
        fields.append((number, wire, value))
    return fields


def write(fields: list[Field]) -> bytes:
    out = bytearray()
    for number, wire, value in fields:
        out += _as_varint(number << 3 | wire)
        if isinstance(value, int):
            out += _as_varint(value)
        else:
            out += (_as_varint(len(value)) if wire == BYTES else b"") + value
    return bytes(out)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
