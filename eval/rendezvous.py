"""How the processes of one run meet before JAX connects them: all of them are there, and asked for the same.

Process 0 listens where JAX's coordinator will, the others tell it what they were asked for, and all get one
answer. Then JAX takes the port over. Left to itself it ends a process without saying what it waited for.
"""

import contextlib
import errno
import json
import re
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jaxalign.errors import JaxalignError

_LONGEST = 1 << 20  # bytes of what a process tells
_SHOWN = 60  # characters of a value
_PAUSE = 0.2  # seconds between two attempts to connect
_RETRY = 5.0  # seconds that one attempt takes at most
Asked = Mapping[str, Any]


def meet(coordinator: str, count: int, own: int, asked: Asked, patience: float) -> None:
    """Return when all `count` processes are here and were asked for the same.

    Args:
      coordinator: HOST:PORT of process 0, as `parse_address` takes it.
      own: the number of this process.
      asked: by option what it was asked for, as JSON has it.
      patience: seconds to wait for the others.

    Raises:
      JaxalignError: a process that does not come, a port that is in use, a host that is not known, something
        else that listens there, or an option that differs, which is named; the same line on all processes.
    """
    if count == 1:
        return
    asked = json.loads(json.dumps(asked))
    if own == 0:
        _receive(parse_address(coordinator)[1], count, asked, patience)
    else:
        _report(coordinator, own, asked, patience)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; raises JaxalignError for anything else."""
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch("[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise JaxalignError(f"the coordinator is {text!r}; expected HOST:PORT with a port from 1 to 65535")
    return host.strip("[]"), int(port)


def difference(told: Mapping[int, Asked]) -> str | None:
    """What processes, by number, were asked for differently, as one line; None where it is all the same."""
    flat = {number: dict(_flat(asked)) for number, asked in told.items()}
    first = flat[min(flat)]
    for number, other in sorted(flat.items()):
        for name in sorted(first.keys() | other.keys()):
            here, there = (json.dumps(of.get(name), ensure_ascii=False) for of in (first, other))
            if here != there:
                shown = [f"{text[:_SHOWN]} ..." if len(text) > _SHOWN else text for text in (here, there)]
                return (
                    f"{name} is {shown[0]} for process {min(told)} and {shown[1]} for process {number};"
                    " all processes of a run have to be asked for the same"
                )
    return None


def _flat(asked: Asked, of: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in asked.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{of}{name}.")
        else:
            yield f"{of}{name}", value


def _receive(port: int, count: int, asked: Asked, patience: float) -> None:
    deadline = time.monotonic() + patience
    with _listen(port) as listener, contextlib.ExitStack() as stack:
        told, waiting = {0: asked}, {}
        error = _gather(listener, count, told, waiting, deadline)
        for connection in waiting:
            stack.enter_context(connection)
        absent = sorted(set(range(count)) - told.keys())
        if error is None and absent:
            named = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
            error = (
                f"waited {patience:g} s (--lost-after) at port {port} for process {named} of {count};"
                " start all of them, and see that this machine can be reached"
            )
        error = error or difference(told)
        for connection in waiting:
            with contextlib.suppress(OSError):  # it has given up
                connection.sendall(json.dumps({"error": error}).encode() + b"\n")
    if error:
        raise JaxalignError(error)


def _listen(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise JaxalignError(
                f"port {port} is in use on this machine; pass another --coordinator to all processes"
            ) from error
        raise JaxalignError(f"cannot listen at port {port}: {error.strerror or error}") from error


def _gather(
    listener: socket.socket,
    count: int,
    told: dict[int, Asked],
    waiting: dict[socket.socket, int],
    deadline: float,
) -> str | None:
    """Fill `told` by number of the process, and `waiting` with who wants an answer; or say what is wrong.

    What connects and is none of ours is left alone.
    """
    heard: dict[socket.socket, bytes] = {}
    while len(told) < count and (left := deadline - time.monotonic()) > 0:
        for ready in select.select([listener, *heard], [], [], left)[0]:
            if ready is listener:
                heard[listener.accept()[0]] = b""
                continue
            try:
                content = ready.recv(1 << 16)
            except OSError:
                content = b""
            heard[ready] += content
            if content and not content.endswith(b"\n") and len(heard[ready]) < _LONGEST:
                continue
            number, asked = _parse(heard.pop(ready))
            if number is None:
                ready.close()
                continue
            waiting[ready] = number
            if number in told:
                return f"two processes say that they are process {number}; give each its own --process-id"
            told[number] = asked
    for stranger in heard:
        stranger.close()
    return None


def _parse(line: bytes) -> tuple[int | None, Asked]:
    try:
        content = json.loads(line)
        number, asked = content["process"], content["asked"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, {}
    return (number, asked) if type(number) is int and isinstance(asked, dict) else (None, {})


def _report(coordinator: str, own: int, asked: Asked, patience: float) -> None:
    deadline = time.monotonic() + patience
    with _connect(coordinator, deadline, patience) as connection:
        silent = JaxalignError(
            f"what listens at {coordinator} is not process 0, or is stuck (waited {patience:g} s,"
            " --lost-after); is the port another program's?"
        )
        answer = b""
        try:
            connection.sendall(json.dumps({"process": own, "asked": asked}).encode() + b"\n")
            while not answer.endswith(b"\n") and len(answer) < _LONGEST:
                # Process 0 waits as long for the others, and may have begun later.
                connection.settimeout(max(deadline + _RETRY - time.monotonic(), 0.1))
                content = connection.recv(1 << 16)
                if not content:
                    break
                answer += content
            error = json.loads(answer)["error"] if answer else "process 0 left before all others had come"
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
            raise silent from problem
    if error:
        raise JaxalignError(str(error))


def _connect(coordinator: str, deadline: float, patience: float) -> socket.socket:
    while True:
        left = deadline - time.monotonic()
        try:
            return socket.create_connection(parse_address(coordinator), timeout=min(max(left, 0.1), _RETRY))
        except OSError as error:  # its name may not be known yet, either
            if left <= 0:
                raise JaxalignError(
                    f"waited {patience:g} s (--lost-after) for process 0 at {coordinator}, which does not"
                    f" answer ({error.strerror or error}); start it, and see that its machine can be reached"
                ) from error
            time.sleep(_PAUSE)
