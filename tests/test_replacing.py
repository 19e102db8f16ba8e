"""What is written is whole or not there, and what a killed process left goes with the next one."""

import fcntl
import os

import pytest

from jaxalign.replacing import partial_folder, replaced_file, replaced_files, replaced_folder


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_at_the_end(tmp_path):
    target = tmp_path / "x.json"
    target.write_text("old")
    with replaced_file(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
        assert partial.name.startswith(".x.json.")
        assert partial.name.endswith(".partial")
    assert (listed(tmp_path), target.read_text()) == (["x.json"], "new")


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_everything_as_it_was(stop, tmp_path):
    def fill_folder():
        with replaced_folder(tmp_path / "folder") as partial:
            (partial / "new").touch()
            raise stop

    def fill_files():
        with replaced_files(tmp_path / "a", tmp_path / "b", suffix=".npz") as (a, _):
            assert a.suffix == ".npz"
            a.write_text("new")
            raise stop

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    for fill in (fill_folder, fill_files):
        with pytest.raises(stop):
            fill()
    assert (listed(tmp_path), listed(tmp_path / "folder")) == (["folder"], ["kept"])


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for names in ("old", "new"):
        with replaced_folder(tmp_path / "deep" / "folder") as partial:
            (partial / names).touch()
    assert (listed(tmp_path / "deep"), listed(tmp_path / "deep" / "folder")) == (["folder"], ["new"])


def abandon(path):
    """As a process leaves it that was killed."""
    if path.suffix == ".json":
        path.write_text("half")
    else:
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"half")
    return path


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    abandon(tmp_path / ".model.0123abcd.partial")
    abandon(tmp_path / ".model.89abcdef.partial")
    abandon(tmp_path / ".x.json.0123abcd.partial.json")
    others = [abandon(tmp_path / name) for name in (".model2.0123abcd.partial", ".model.backup.partial")]
    with replaced_folder(tmp_path / "model"), replaced_file(tmp_path / "x.json"):
        pass
    assert listed(tmp_path) == sorted(["model", "x.json", *(path.name for path in others)])


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    with replaced_folder(tmp_path / "model") as first:
        (first / "first").touch()
        with replaced_folder(tmp_path / "model") as second:
            assert first.is_dir()
            (second / "second").touch()
    assert (listed(tmp_path), listed(tmp_path / "model")) == (["model"], ["first"])


def test_a_replacement_that_was_killed_between_its_two_steps_is_taken_back(tmp_path):
    abandon(tmp_path / ".model.0123abcd.partial.old")
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "model"):
        raise RuntimeError
    assert (listed(tmp_path), listed(tmp_path / "model")) == (["model"], ["model.safetensors"])


def test_where_there_are_no_locks_nothing_is_removed(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    left = abandon(tmp_path / ".model.0123abcd.partial")
    with replaced_folder(tmp_path / "model"):
        pass
    assert listed(tmp_path) == [left.name, "model"]


def test_long_names_and_links(tmp_path):
    long = tmp_path / ("\u65e5" * 80 + ".json")  # 245 bytes
    with replaced_file(long) as partial:
        partial.write_text("x")
    link = tmp_path / f".{long.name[:55]}.0123abcd.partial"
    os.symlink(tmp_path, link)
    with replaced_file(long), partial_folder(tmp_path / "stage") as stage:
        assert stage.is_dir()
    assert listed(tmp_path) == sorted([link.name, long.name])
