"""What the commands can be asked for."""

import dataclasses
import typing
from typing import Any


def options(kind: type) -> dict[str, Any]:
    """The annotations of a command's options by name, those of its groups among them."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        found |= options(plain) if dataclasses.is_dataclass(plain) else {name: hint}
    return found


def choices(hint: Any) -> tuple[Any, ...]:
    """The values that an annotation lists one by one; none where it lists none."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Annotated:
        inner = inner[:1]
    return tuple(value for part in inner for value in choices(part))
