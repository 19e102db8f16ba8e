"""Commands keep what they compile, in a folder that is the user's alone."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxalign.eval import cli
from jaxalign.eval.cli import COMPILED_FOLDER, keep_compiled_programs, processor


@pytest.fixture
def home(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty home, in a process that has chosen no folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(COMPILED_FOLDER, "")
    monkeypatch.delenv(COMPILED_FOLDER)
    monkeypatch.setenv(cli.LEAST_SECONDS, "0.05")
    with warnings.catch_warnings():  # a filter is added
        yield tmp_path


def kept() -> Path:
    keep_compiled_programs()
    return Path(os.environ[COMPILED_FOLDER])


def test_the_folder_is_below_the_cache_and_of_this_processor(home):
    folder = kept()
    assert folder == home / ".cache/jaxalign/compiled" / processor()
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("chosen", ["", "elsewhere"])
def test_a_folder_that_the_user_has_chosen_stays(chosen, home, monkeypatch):
    monkeypatch.setenv(COMPILED_FOLDER, chosen)
    keep_compiled_programs()
    assert os.environ[COMPILED_FOLDER] == chosen
    assert not (home / ".cache").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720])
def test_nothing_is_kept_where_others_can_write(mode, home, monkeypatch):
    kept().chmod(mode)
    monkeypatch.delenv(COMPILED_FOLDER)
    keep_compiled_programs()
    assert COMPILED_FOLDER not in os.environ


def test_a_home_that_cannot_be_written_is_no_error(home):
    (home / ".cache").write_text("a file")
    keep_compiled_programs()
    assert COMPILED_FOLDER not in os.environ


def test_a_user_without_a_home_is_no_error(home, monkeypatch):
    monkeypatch.setattr(Path, "expanduser", lambda path: (_ for _ in ()).throw(RuntimeError("no home")))
    keep_compiled_programs()
    assert COMPILED_FOLDER not in os.environ


def test_a_folder_that_has_grown_too_large_is_begun_anew(home, monkeypatch):
    folder = kept()
    (folder / "program").write_bytes(bytes(101))
    monkeypatch.delenv(COMPILED_FOLDER)
    monkeypatch.setattr(cli, "MOST_COMPILED", 100)
    assert list(kept().iterdir()) == []
