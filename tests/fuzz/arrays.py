"""`.npy` and `.safetensors`: headers that lie about the numbers after them."""

import random
import struct
from collections.abc import Sequence

from .json_values import json_mutator
from .mutant import Mutate, pick_count, pick_size
from .raw import mutate_bytes

_DESCRIPTIONS = (
    *(
        "'<f4'",
        "'>f4'",
        "'<f2'",
        "'|V2'",
        "'|O'",
        "'<U3'",
        "'|S5'",
        "'<c8'",
        "'<M8[s]'",
        "'<m8'",
        "'<i8'",
        "'|b1'",
    ),
    *(
        "'f4,f4'",
        "'<f16'",
        "'<f3'",
        "''",
        "'V4294967295'",
        "'<U536870911'",
        "'|V0'",
        "'|S0'",
        "'=f4'",
        "'f4'",
        "None",
    ),
    *(
        "[('a', '<f4')]",
        "[('a', '|O')]",
        "('<f4', (2,))",
        "('<f4', (4294967296,))",
        "{}",
        "1",
        "['a']",
        "'(2)f4'",
    ),
    *(
        "[('\\x1b]0;x\\x07', '<f4')]",
        "'\\n'",
        "[('a', [('b', '<f4', (3, 4))])]",
        "'<f4\\0'",
        "'object'",
        "'<u4'",
    ),
)
_TEXTS = (
    *(
        "__import__('os').mkdir('executed')",
        "{}",
        "[]",
        "",
        "{'descr': '<f4'}",
        "\0",
        "'x' * 10**9",
        "9" * 5000,
    ),
    *(
        "{'descr':'<f4','fortran_order':False,'shape':(2,),'extra':1}",
        "{1: 2}",
        "{[]: 1}",
        "1 + 1j",
        "b'x'",
        "# x",
    ),
)
_DEEPEST = 100_000


def mutate_npy(rng: random.Random, content: bytes, other: bytes = b"") -> tuple[str, bytes]:
    """The kind and the content of what the valid `.npy` becomes: another kind, shape or length."""
    if rng.random() < 0.25:
        return "bytes", mutate_bytes(rng, content, other)
    length = int.from_bytes(content[8:10], "little")
    data, header = content[10 + length :], content[10 : 10 + length].decode()
    kind, text = rng.choice(_HEADERS)(rng, header)
    if rng.random() < 0.2:
        data = rng.choice((b"", data[:-1], data + data, bytes(pick_count(rng, 10**6))))
    version = rng.choice((1, 1, 1, 2, 3, rng.randrange(256)))
    encoded = text.encode("utf-8" if version == 3 else "latin-1", "replace") + b"\n"
    claimed = pick_size(rng) if rng.random() < 0.1 else len(encoded)
    width = 2 if version == 1 else 4
    claim = (claimed % 256**width).to_bytes(width, "little")
    return kind, b"\x93NUMPY" + bytes([version, 0]) + claim + encoded[: 256**width - 1] + data


def _facts(rng: random.Random, header: str) -> tuple[str, str]:
    facts = {
        "descr": rng.choice(_DESCRIPTIONS),
        "shape": _shape(rng),
        "fortran_order": rng.choice(("True", "1", "None")),
    }
    changed = rng.sample(sorted(facts), rng.choice((1, 1, 2)))
    known = {"descr": header.split("'descr': ")[1].split(", 'fortran")[0], "fortran_order": "False"}
    known["shape"] = header.split("'shape': ")[1].rsplit(",", 1)[0]
    facts = {name: facts[name] if name in changed else known[name] for name in known}
    return "facts", "{" + ", ".join(f"'{name}': {value}" for name, value in facts.items()) + "}"


def _shape(rng: random.Random) -> str:
    numbers = [
        rng.choice((pick_size(rng), -pick_size(rng), 0, 1, 2))
        for _ in range(rng.choice((0, 1, 2, 2, 3, 33, 70)))
    ]
    odd = (
        "(4.0,)",
        "(True,)",
        "4",
        "[2, 3]",
        "None",
        "('4',)",
        "((2,),)",
        "(1e999,)",
        "(2**62,)",
        "(" + "1," * 10_000 + ")",
    )
    return rng.choice(odd) if rng.random() < 0.3 else "(" + "".join(f"{n}," for n in numbers) + ")"


def _text(rng: random.Random, header: str) -> tuple[str, str]:
    return "text", rng.choice(_TEXTS)


def _nesting(rng: random.Random, header: str) -> tuple[str, str]:
    depth = pick_count(rng, _DEEPEST)
    return "nesting", rng.choice(
        ("(" * depth + ")" * depth, "[" * depth, "-" * depth + "1", "{1:" * depth, " " * depth)
    )


_HEADERS = (_facts, _facts, _facts, _text, _nesting)


def safetensors_mutator(words: Sequence[str]) -> Mutate:
    """Mutations of a `.safetensors` file; `words` are names that its reader knows."""
    mutate_header = json_mutator(("__metadata__", "data_offsets", "dtype", "shape", *words))

    def mutate(rng: random.Random, content: bytes, other: bytes) -> tuple[str, bytes]:
        if rng.random() < 0.2:
            return "bytes", mutate_bytes(rng, content, other)
        length = int.from_bytes(content[:8], "little")
        kind, header = mutate_header(rng, content[8 : 8 + length], content[:8])
        data = content[8 + length :]
        if rng.random() < 0.1:
            data = rng.choice((b"", data[:-1], data + b"x", mutate_bytes(rng, data)))
        claimed = pick_size(rng) % 2**64 if rng.random() < 0.1 else len(header)
        return f"header, {kind}", struct.pack("<Q", claimed) + header + data

    return mutate
