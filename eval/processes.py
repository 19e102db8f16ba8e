"""Several processes of one command: how they find each other, share work, and what happens when one is lost.

Each process runs the same command on the same folders and JAX connects them (`jax.distributed`). Work that is
kept in chunks is shared without any communication but at its beginning and end; galleries and test features
are divided over the devices of all. The first process writes what is common to all.

With one process everything here does nothing.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval import interrupts
from jaxalign.eval.rendezvous import difference, meet

T = TypeVar("T")
_ADVICE = "what is finished is kept: run the same command again, as all of its processes, to go on"
# How XLA and its collectives say that another process does not answer any more.
_LOSS = re.compile(r"^[A-Z_]+: .*(Gloo|NCCL|RCCL|heartbeat|coordination|[Bb]arrier|peer|onnect)", re.DOTALL)


def is_first() -> bool:
    """Whether this is the process that writes what is common to all."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Go on when all processes are here; `what` is the same on all of them."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def after_first(what: str) -> Iterator[None]:
    """The block runs on the first process, and on the others when it is done there."""
    if not is_first():
        wait_for_all(what)
    yield
    if is_first():
        wait_for_all(what)


def as_first(flag: bool) -> bool:
    """What the first process says, on all of them."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))


def agree(what: str, facts: Callable[[], Mapping[str, Any]]) -> None:
    """Raise JaxalignError on all processes, naming what differs, unless they all have the same `facts`.

    Args:
      what: they are of, on all of them.
      facts: gives them as JSON has them.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    told = np.frombuffer(json.dumps(facts()).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(told.size))
    padded = np.zeros(max(sizes), np.uint8)
    padded[: told.size] = told
    rows = multihost_utils.process_allgather(padded)
    found = {i: json.loads(bytes(row[:size])) for i, (row, size) in enumerate(zip(rows, sizes, strict=True))}
    if differing := difference(found):
        jax.distributed.shutdown()  # together: one that has gone would end the others on the spot
        raise JaxalignError(f"{what}: {differing}")


def own_share(items: Sequence[T], what: str) -> Sequence[T]:
    """Every n-th of `items`, which all processes list before any of them begins."""
    wait_for_all(what)
    return items[jax.process_index() :: jax.process_count()]


@contextlib.contextmanager
def connected(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    lost_after: int,
    asked: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Be one of several processes; what is None JAX finds out where the cluster says it.

    Args:
      coordinator: HOST:PORT of the first process.
      lost_after: seconds without a sign of life after which a process counts as lost, and all end.
      asked: by option what this process was asked for: the same as all others, or none of them works.

    Raises:
      JaxalignError: no cluster to be found, a coordinator or a process that does not come, an option that
        differs, or a process that is lost while others wait for it.
    """
    if coordinator and num_processes and process_id is not None:
        meet(coordinator, num_processes, process_id, asked or {}, lost_after)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        waits = ("initialization_timeout", "heartbeat_timeout_seconds", "shutdown_timeout_seconds")
        patience = dict.fromkeys(waits, lost_after)
        jax.distributed.initialize(coordinator, num_processes, process_id, **patience)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise JaxalignError(
            f"cannot connect the processes ({reason}); outside TPU pods, SLURM and Open MPI pass"
            " --coordinator HOST:PORT, --num-processes N and --process-id I"
        ) from error
    try:
        agree("the command", lambda: asked or {})
        yield
        wait_for_all("the end")
        jax.distributed.shutdown()
    except (RuntimeError, ValueError) as error:
        if isinstance(error, JaxalignError) or not _LOSS.match(str(error)):
            raise
        raise JaxalignError(f"another process of this run was lost; {_ADVICE}") from error


def supervise(arguments: Sequence[str]) -> int:
    """Run the command in a process of its own, and return its exit status.

    JAX's coordination service ends a process whose peers are lost on the spot (SIGABRT, from C++). This one
    is still there to say what has happened.
    """
    read, write = os.pipe()
    command = [sys.executable, "-m", "jaxalign", *arguments]
    child = subprocess.Popen(command, pass_fds=[read], env=os.environ | {interrupts.PARENT: str(read)})
    os.close(read)
    with _forwarding(child):
        status = child.wait()
    os.close(write)
    if status >= 0:
        return status
    if -status in interrupts.SIGNALS:  # before it had begun
        return interrupts.end_stopped(-status)
    name = signal.Signals(-status).name
    if name == "SIGABRT":
        raise JaxalignError(f"another process of this run was lost, or cannot be reached; {_ADVICE}")
    raise JaxalignError(f"this process was ended by {name}; {_ADVICE}")


@contextlib.contextmanager
def _forwarding(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Signals are for the child, which says what becomes of them; a terminal has told it, too."""
    alike = [number for number in interrupts.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda got, _: child.send_signal(got)) for number in alike}
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Let this process, which `supervise` started, not outlive the one that did."""
    parent = int(os.environ[interrupts.PARENT])

    def watch() -> None:
        os.read(parent, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
