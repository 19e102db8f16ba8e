"""JSON whose values have other types, sizes and spellings than expected."""

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from .mutant import HOSTILE_TEXTS, Mutate, pick_count
from .raw import mutate_bytes

DEEPEST = 200_000
_MARK, _END = "@raw:", ":raw@"  # around text that is written without quotes; `json` would not write it


def json_mutator(words: Sequence[str]) -> Mutate:
    """Mutations of a JSON file; `words` are names that its reader knows, which then turn up in it."""

    def mutate(rng: random.Random, content: bytes, other: bytes) -> tuple[str, bytes]:
        how = rng.random()
        if how < 0.12:
            return "bytes", mutate_bytes(rng, content, other)
        if how < 0.2:
            return "file", _whole_file(rng, content)
        value = json.loads(content)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            value = _change(rng, value, words)
        return "value", dump(value)

    return mutate


def dump(value: Any) -> bytes:
    """`value` as JSON; strings of `as_is` as what they stand for."""
    return _text(value).encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    text = json.dumps(value)
    parts = text.split(f'"{_MARK}')
    for i in range(1, len(parts)):
        quoted, _, rest = parts[i].partition(f'{_END}"')
        parts[i] = json.loads(f'"{quoted}"') + rest
    return "".join(parts)


def as_is(text: str) -> str:
    """A string for which `dump` writes `text` without quotes."""
    return f"{_MARK}{text}{_END}"


def strange_value(rng: random.Random) -> Any:
    """A value that is none of the usual ones."""
    return rng.choice(_STRANGE)(rng)


def nested(rng: random.Random) -> str:
    """Brackets in brackets, closed or not."""
    depth = pick_count(rng, DEEPEST)
    if rng.random() < 0.5:
        return as_is("[" * depth + "]" * (depth if rng.random() < 0.8 else 0))
    return as_is('{"a":' * depth + "1" + "}" * depth)


_NUMBERS = (
    *(
        "0",
        "-0",
        "-1",
        "1",
        "2",
        "3",
        "0.5",
        "-0.5",
        "1e-320",
        "1e30",
        "1e308",
        "1e999",
        "-1e999",
        "16777216",
    ),
    *("2147483647", "2147483648", "4294967296", "9007199254740993", "9223372036854775807"),
    *(
        "9223372036854775808",
        "18446744073709551616",
        "9" * 400,
        "-" + "9" * 400,
        "9" * 5000,
        "9" * 400 + ".5",
    ),
    *("NaN", "Infinity", "-Infinity"),
)
_STRANGE: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: rng.choice((None, True, False, [], {}, "", [[]], [{}], {"x": 1}, [None], [True], {"": None})),
    lambda rng: as_is(rng.choice(_NUMBERS)),
    lambda rng: as_is(rng.choice(_NUMBERS)),
    lambda rng: rng.choice(HOSTILE_TEXTS),
    lambda rng: [as_is(rng.choice(_NUMBERS)) for _ in range(rng.choice((1, 2, 3, 3, 3, 4)))],
    lambda rng: {rng.choice(HOSTILE_TEXTS): rng.choice(HOSTILE_TEXTS)},
    lambda rng: ["x"] * pick_count(rng, 10_000),
    nested,
)


def _change(rng: random.Random, root: Any, words: Sequence[str]) -> Any:
    """`root` with one of its values, names or elements changed."""
    root = {"root": copy.deepcopy(root)}  # so that the root, too, is in something
    holder, key = rng.choice(list(_places(root)))
    operation = rng.choice(
        (_replace, _replace, _replace, _tweak, _remove, _rename, _add, _swap, _wrap, _repeat)
    )
    operation(rng, root, holder, key, words)
    return root["root"] if "root" in root else strange_value(rng)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Where values are: what holds each, and its name or position there."""
    found, waiting = [], [value]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(min(len(node), 50))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                waiting.append(node[key])
    return found


def _replace(rng, root, holder, key, words) -> None:
    holder[key] = rng.choice(words) if rng.random() < 0.1 else strange_value(rng)


def _tweak(rng, root, holder, key, words) -> None:
    """Something like it."""
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = rng.choice((not value, int(value), str(value)))
    elif isinstance(value, int | float):
        holder[key] = rng.choice(
            (value + 1, value - 1, -value, value * 2, value * 1000, value / 3, str(value))
        )
    elif isinstance(value, str) and _MARK not in value:
        holder[key] = rng.choice((value + rng.choice(HOSTILE_TEXTS), value[:-1], value.upper(), [value]))
    elif isinstance(value, list):
        holder[key] = rng.choice((value[:-1], value[::-1], value + value, [*value, strange_value(rng)], None))
    elif isinstance(value, dict):
        holder[key] = list(value.items())


def _remove(rng, root, holder, key, words) -> None:
    del holder[key]


def _rename(rng, root, holder, key, words) -> None:
    if isinstance(holder, dict):
        holder[rng.choice((*HOSTILE_TEXTS, rng.choice(words), f"{key}s"))] = holder.pop(key)


def _add(rng, root, holder, key, words) -> None:
    inside = holder[key] if isinstance(holder[key], dict) and rng.random() < 0.7 else holder
    if isinstance(inside, dict):
        inside[rng.choice(words)] = strange_value(rng)


def _swap(rng, root, holder, key, words) -> None:
    """Two values change places; no value comes to lie in itself."""
    other, name = rng.choice(_places(root))
    if not any(isinstance(x, dict | list) for x in (holder[key], other[name])):
        holder[key], other[name] = other[name], holder[key]


def _wrap(rng, root, holder, key, words) -> None:
    holder[key] = rng.choice(([holder[key]], {"value": holder[key]}, [holder[key]] * 3))


def _repeat(rng, root, holder, key, words) -> None:
    """The same name twice, or a list many times as long."""
    value = holder[key]
    if isinstance(value, list):
        holder[key] = value * (1 + pick_count(rng, 2000) // max(len(value), 1))
    elif isinstance(holder, dict):
        holder[key] = as_is(f"{_text(value)}, {json.dumps(str(key))}: {_text(strange_value(rng))}")


def _whole_file(rng: random.Random, content: bytes) -> bytes:
    text = content.decode()
    return rng.choice(
        (
            b"\xef\xbb\xbf" + content,
            text.encode("utf-16"),
            text.encode("utf-32"),
            content + content,
            content + b"x",
            b"",
            b" " * pick_count(rng, 10**6),
            b"\xff" + content,
            content.replace(b'"', b"'"),
            content.replace(b",", b",,", 1),
            dump(strange_value(rng)),
            dump(nested(rng)),
        )
    )
