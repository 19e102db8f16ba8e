"""Only regular files are read, and no more of them than a limit."""

import os
import socket
from pathlib import Path

import pytest

import jaxalign as ja
from jaxalign.errors import JaxalignError, printable
from jaxalign.eval.files import is_own_image
from jaxalign.local_files import is_there, open_regular, read_json, read_limited


def test_a_file_and_a_link_to_it_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    assert read_limited(tmp_path / "file", 7) == b"content"


def test_what_has_no_end_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for name in ("pipe", "zero", "socket", ".", "missing", "nul\0"):
        with pytest.raises(JaxalignError, match=r"expected a file|cannot read"):
            open_regular(tmp_path / name)


def test_what_has_nothing_to_read_is_no_empty_answer(tmp_path, monkeypatch):
    """As the kernel's log, which the system calls a regular file."""
    os.mkfifo(tmp_path / "log.png")
    writer = os.open(tmp_path / "log.png", os.O_RDWR)
    monkeypatch.setattr("stat.S_ISREG", lambda mode: True)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    for read in (lambda file: file.read(8), lambda file: file.read(), lambda file: file.raw.read(8)):
        with open_regular(tmp_path / "log.png") as file, pytest.raises(OSError, match="nothing to read"):
            read(file)
    assert not is_own_image(tmp_path / "log.png")
    with pytest.raises(JaxalignError, match="nothing to read"):
        read_limited(tmp_path / "log.png", 8)
    os.close(writer)


def test_a_file_beyond_the_limit_is_refused(tmp_path):
    (tmp_path / "long").write_bytes(bytes(1000))
    with pytest.raises(JaxalignError, match="1,000 bytes; expected at most 999"):
        read_limited(tmp_path / "long", 999)
    with pytest.raises(JaxalignError, match="is no ordinary file"):  # it says that it is empty
        read_limited(Path("/proc/self/status"), 1_000_000)


def test_what_the_system_does_not_say_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert [is_there(tmp_path / name) for name in (".", "file", "no", "file/in", "n\0l")] == [True] * 2 + [
        False
    ] * 3
    for name in ("x" * 300, "loop"):
        with pytest.raises(JaxalignError, match=r"cannot read .*: (File name too long|Too many levels)"):
            is_there(tmp_path / name)
    for name in ("x" * 300, f"{tmp_path}/loop"):
        with pytest.raises(JaxalignError, match="cannot read"):
            ja.load(name)
    with pytest.raises(JaxalignError, match="name_or_path is empty"):
        ja.load("")


def test_json_with_a_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b"", b"{", b"9" * 5000], ids=range(6)
)
def test_bad_json_is_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(JaxalignError, match=r"is not JSON|nested too deeply") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_errors_are_one_line_that_a_terminal_does_not_obey():
    error = JaxalignError("a\x1b]0;title\x07\nb \udcff \u202edetrever 日本")
    assert str(error) == "a\\x1b]0;title\\x07\\nb \\udcff \\u202edetrever 日本"
    assert printable("café") == "café"
