"""Interrupts, wherever they arrive, end a command with one line that says what is kept."""

import contextlib
import dataclasses
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from test_cli import KEPT, single_line

from jaxalign.errors import JaxalignError
from jaxalign.eval import cli, interrupts

SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


@pytest.fixture(autouse=True)
def ordinary_signals():
    """A shell has them ignored in what it runs in the background."""
    handlers = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
    before = {s: signal.signal(s, handler) for s, handler in zip(interrupts.SIGNALS, handlers, strict=True)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def command(work, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Working:
        def run(self) -> None:
            work()

    monkeypatch.setattr(cli, "COMMANDS", {"work": Working})
    threads, hook = threading.active_count(), sys.unraisablehook
    handlers = [signal.getsignal(number) for number in interrupts.SIGNALS]
    status = cli.main(["work"])
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == handlers
    assert sys.unraisablehook is hook
    assert signal.set_wakeup_fd(-1) == -1
    end = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == threads
    return status


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    time.sleep(0.01)


def translated():
    try:
        send()
    except BaseException as error:
        raise JaxalignError("the prepared copy is damaged; delete it and run again") from error


def an_error_of_the_system():
    try:
        send()
    finally:
        raise OSError(5, "Input/output error")


def a_bug():
    try:
        send()
    finally:
        raise AssertionError


def swallowed():
    try:
        send()
    except BaseException:
        return


def swallowed_more_than_once():
    for _ in range(2):
        try:
            send()
            time.sleep(10)
        except BaseException:
            continue
    time.sleep(10)
    raise AssertionError


def swallowed_by_a_callback():
    def callback(phase, info):
        gc.callbacks.remove(callback)
        send()

    gc.callbacks.append(callback)
    gc.collect()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "work",
    [
        send,
        translated,
        an_error_of_the_system,
        a_bug,
        swallowed,
        swallowed_more_than_once,
        swallowed_by_a_callback,
    ],
)
def test_whatever_a_library_makes_of_it(work, monkeypatch, capsys):
    monkeypatch.setattr(interrupts, "_LOOK", 0.05)
    assert command(work, monkeypatch) == 130
    assert single_line(capsys.readouterr().err) == f"jaxalign: error: interrupted; {KEPT}"


@pytest.mark.long
def test_a_signal_while_a_lost_one_is_looked_after_is_raised_later(monkeypatch, capsys):
    """As on a busy machine, where starting the timer takes longer than until somebody looks again."""
    start = interrupts.threading.Timer.start

    def slowly(timer):
        time.sleep(0.2)  # signals of our own come meanwhile
        start(timer)

    monkeypatch.setattr(interrupts.threading.Timer, "start", slowly)
    monkeypatch.setattr(interrupts, "_LOOK", 0.05)
    assert command(swallowed_by_a_callback, monkeypatch) == 130
    assert single_line(capsys.readouterr().err) == f"jaxalign: error: interrupted; {KEPT}"


@pytest.mark.parametrize("number", SAID)
def test_every_signal_lets_the_command_clean_up(number, monkeypatch, capsys):
    cleaned = []

    def work():
        try:
            send(number)
        finally:
            send(number)  # `timeout` sends it twice
            cleaned.append(True)

    assert command(work, monkeypatch) == 128 + number
    assert single_line(capsys.readouterr().err) == f"jaxalign: error: {SAID[number]}; {KEPT}"
    assert cleaned


def test_cleaning_is_not_interrupted_however_long_it_takes(monkeypatch):
    monkeypatch.setattr(interrupts, "_LOOK", 0.02)
    cleaned = []

    @contextlib.contextmanager
    def cleaning():
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                raise ValueError
            time.sleep(0.2)
            cleaned.append(True)

    def work():
        with cleaning():
            send()

    assert command(work, monkeypatch) == 130
    assert cleaned


def test_what_a_shell_ignores_stays_ignored(monkeypatch, capsys):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert command(send, monkeypatch) == 0
    assert capsys.readouterr().err == ""


def test_in_a_thread_nothing_is_caught(monkeypatch):
    found = []
    monkeypatch.setattr(cli, "COMMANDS", {})
    thread = threading.Thread(target=lambda: found.append(cli.main(["--version"])))
    thread.start()
    thread.join()
    assert found == [0]


def finish(code, folder):
    environment = os.environ | {"PYTHONPATH": str(folder)}
    start = time.monotonic()
    given = [sys.executable, *code]
    run = subprocess.run(given, capture_output=True, text=True, check=False, env=environment)
    assert time.monotonic() - start < 60
    return run.returncode, single_line(run.stderr.strip() + "\n")


def test_while_it_starts(tmp_path):
    (tmp_path / "tyro.py").write_text("import os, time; os.kill(os.getpid(), 2); time.sleep(120)")
    assert finish(["-m", "jaxalign", "models"], tmp_path) == (130, f"jaxalign: error: interrupted; {KEPT}")


def test_a_second_one_does_not_wait(tmp_path):
    """Not even for a call that lets no Python run, as that of the compiler."""
    code = (
        "import hashlib, os, threading\n"
        "from jaxalign.eval import interrupts\n"
        "interrupts.start()\n"
        "for seconds in (0.2, 1.2):\n"
        "    threading.Timer(seconds, os.kill, [os.getpid(), 2]).start()\n"
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
    )
    assert finish(["-c", code], os.getcwd()) == (130, f"jaxalign: error: interrupted; {KEPT}")
