"""Processes of one run meet: all of them come, asked for the same, or each says in one line what is wrong."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxalign.errors import JaxalignError
from jaxalign.eval import cli, rendezvous
from jaxalign.eval.cli.groups import ProjectionOptions, RunOptions
from jaxalign.eval.cli.retrieve import Retrieve
from jaxalign.eval.rendezvous import difference, meet, parse_address

ASKED = {"the command": "retrieve", "--band": (3, 4), "--model": "emoji-clip"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(asked, count=None, patience=20.0, port=None):
    """What each of the processes gets, in the order of `asked`, which is by their numbers."""
    port = port or free_port()

    def one(number):
        try:
            meet(f"127.0.0.1:{port}", count or len(asked), number % 10, asked[number], patience)
        except JaxalignError as error:
            return str(error)

    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(one, asked))


def test_all_come_and_were_asked_for_the_same():
    assert together(dict.fromkeys((2, 0, 1), ASKED)) == [None, None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--band": (3, 5)}, "--band is [3, 4] for process 0 and [3, 5] for process 1;"),
        (
            {"--model": "emoji-siglip"},
            '--model is "emoji-clip" for process 0 and "emoji-siglip" for process 1;',
        ),
        ({"--layout": "paper"}, '--layout is null for process 0 and "paper" for process 1;'),
    ],
)
def test_an_option_that_differs_is_named_by_all(change, message):
    found = together({0: ASKED, 1: ASKED | change, 2: ASKED})
    assert len(set(found)) == 1
    assert found[0].startswith(message)


def test_one_that_does_not_come_is_named_by_all():
    found = together({0: ASKED, 2: ASKED}, count=3, patience=1.0)
    assert found[0] == found[1]
    assert "for process 1 of 3; start all of them" in found[0]


def test_process_0_does_not_come():
    [found] = together({1: ASKED}, count=2, patience=0.5)
    assert found.startswith("waited 0.5 s (--lost-after) for process 0 at 127.0.0.1:")


def test_two_with_one_number():
    found = together({0: ASKED, 1: ASKED, 11: ASKED}, count=3)
    assert "two processes say that they are process 1; give each its own --process-id" in found


def test_a_port_that_is_in_use():
    with socket.create_server(("", 0)) as other:
        [found] = together({0: ASKED}, count=2, port=other.getsockname()[1])
    assert "is in use on this machine" in found


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"[]\n"])
def test_something_else_that_listens(answer, monkeypatch):
    monkeypatch.setattr(rendezvous, "_RETRY", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve():
            connection = other.accept()[0]
            with connection:
                if answer is None:
                    time.sleep(1)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        [found] = together({1: ASKED}, count=2, patience=0.3, port=other.getsockname()[1])
        thread.join()
    assert "is not process 0, or is stuck" in found


def test_strangers_change_nothing():
    port = free_port()

    def disturb():
        for content in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"[" * 100_000 + b"\n",
            b'{"process": "1", "asked": {}}\n',
            b"",
        ):
            end = time.monotonic() + 10
            while time.monotonic() < end:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                        connection.sendall(content)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, f"127.0.0.1:{port}", 2, 0, ASKED, 20.0)
        disturb()
        meet(f"127.0.0.1:{port}", 2, 1, ASKED, 20.0)
        assert first.result() is None


def test_one_process_meets_nobody():
    meet("nowhere.invalid:1", 1, 0, ASKED, 0.1)


def test_an_unknown_host():
    with pytest.raises(JaxalignError, match=r"process 0 at nowhere\.invalid:1, which does not answer"):
        meet("nowhere.invalid:1", 2, 1, ASKED, 0.1)


def test_a_difference_is_named_where_it_is():
    told = {i: {"spec": {"mean": [i, 2], "name": "x"}, "long": "y" * 100} for i in range(2)}
    said = "spec.mean is [0, 2] for process 0 and [1, 2] for process 1"
    assert difference(told).startswith(said)
    assert difference({0: told[0], 1: told[0]}) is None


def test_addresses():
    assert parse_address("host:80") == ("host", 80)
    assert parse_address("[::1]:65535") == ("::1", 65535)
    for wrong in ("x", "x:", ":80", "x:0", "x:080", "x:65536", "x:99999", "x:-1", "x:8o", ""):
        with pytest.raises(JaxalignError, match="expected HOST:PORT with a port from 1 to 65535"):
            parse_address(wrong)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--coordinator x --num-processes 2 --process-id 0", "the coordinator is 'x'; expected HOST:PORT"),
        ("--coordinator x:99999 --num-processes 2 --process-id 0", "the coordinator is 'x:99999'; expected"),
        ("--num-processes 2 --process-id 2", "--process-id is 2; expected 0 to 1"),
        ("--num-processes 2 --process-id -1", "--process-id is -1; expected 0 to 1"),
        ("--num-processes 0 --process-id 0", "--num-processes is 0; expected 1 or more"),
        ("--lost-after 0", "--lost-after is 0; expected 1 or more seconds"),
    ],
)
def test_what_no_network_could_make_right_is_bad_usage(given, message, capsys):
    assert cli.main(["retrieve", "--distributed", *given.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"jaxalign: error: {message}")
    assert said.count("\n") == 1


def test_what_processes_are_asked_for():
    command = Retrieve(projection=ProjectionOptions(band=(1, 2)), results=RunOptions(store="/here"))
    told = cli.asked(command, "retrieve")
    assert (told["the command"], told["--band"], "--store" in told) == ("retrieve", (1, 2), False)
    assert json.loads(json.dumps(told))["the version of jaxalign"]
