"""Runs on disk: found again by their settings, whole or absent, damage named."""

import errno
import hashlib
import json
import os
import zipfile

import numpy as np
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.eval.tasks.runs import Run, find_run, read_runs, write_run

SETTINGS = {"model": "tiny", "dataset": "emoji", "band": [1, 2], "seed": 0}


def make_run(**changes):
    fields = {"protocol": "image-retrieval", "settings": SETTINGS, "metrics": {"mAP": 12.5}, "seconds": 1.0}
    return Run(**(fields | changes))


def test_a_run_is_found_by_its_settings(tmp_path):
    arrays = {"ap": np.arange(3, dtype=np.float32)}
    write_run(tmp_path, make_run(arrays=arrays))
    reordered = dict(reversed(SETTINGS.items()))
    found = find_run(tmp_path, "image-retrieval", reordered)
    assert found is not None
    assert found.to_json() == make_run().to_json()
    assert (make_run().anew, found.anew) == (True, False)
    np.testing.assert_array_equal(found.arrays["ap"], arrays["ap"])
    assert find_run(tmp_path, "image-retrieval", SETTINGS | {"seed": 1}) is None
    assert find_run(tmp_path, "text-retrieval", SETTINGS) is None


def test_all_runs_of_a_folder_and_nothing_else(tmp_path):
    write_run(tmp_path, make_run())
    write_run(tmp_path, make_run(settings=SETTINGS | {"seed": 1}))
    (tmp_path / "metrics.json").write_text("{}")
    assert sorted(run.settings["seed"] for run in read_runs(tmp_path)) == [0, 1]
    with pytest.raises(JaxalignError, match="no folder"):
        read_runs(tmp_path / "none")


def test_nothing_half_written_stays(tmp_path):
    with pytest.raises(JaxalignError, match="cannot be written as JSON"):
        write_run(tmp_path, make_run(metrics={"mAP": float("nan")}))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxalignError, match="cannot write"):
        write_run(tmp_path / "file", make_run())


def test_a_full_disk_leaves_no_half_of_a_run(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for writer in ("pathlib.Path.write_text", "numpy.savez_compressed"):
        with monkeypatch.context() as patch:
            patch.setattr(writer, full)
            with pytest.raises(JaxalignError, match=r"cannot write .*: No space left on device"):
                write_run(tmp_path, make_run(arrays={"x": np.zeros(3)}))
        assert find_run(tmp_path, "image-retrieval", SETTINGS) is None
        assert not [path for path in tmp_path.iterdir() if path.suffix == ".json"]
    write_run(tmp_path, make_run(arrays={"x": np.zeros(3)}))
    assert find_run(tmp_path, "image-retrieval", SETTINGS) is not None


def test_what_was_left_out_is_kept_and_may_be_absent(tmp_path):
    path = write_run(tmp_path, make_run(left_out={"photos/all": ("a.jpg",)}))
    found = find_run(tmp_path, "image-retrieval", SETTINGS)
    assert found is not None
    assert found.left_out == {"photos/all": ["a.jpg"]}
    content = json.loads(path.read_text())
    del content["left_out"]
    path.write_text(json.dumps(content))
    assert find_run(tmp_path, "image-retrieval", SETTINGS).left_out == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"format": "jaxalign-run", "version": 7}', "version 7"),
        ('{"format": "jaxalign-run", "version": 1}', "lacks metrics, protocol"),
        ("[]", "is None version None"),
    ],
)
def test_damage_is_named(tmp_path, content, message):
    write_run(tmp_path, make_run())
    (tmp_path / Run("image-retrieval", SETTINGS, {}).file_name).write_text(content)
    with pytest.raises(JaxalignError, match=message):
        read_runs(tmp_path)


def test_damaged_arrays_are_named(tmp_path):
    path = write_run(tmp_path, make_run(arrays={"x": np.zeros(3)}))
    path.with_suffix(".npz").write_bytes(b"PK nothing")
    with pytest.raises(JaxalignError, match="is damaged"):
        find_run(tmp_path, "image-retrieval", SETTINGS)


def test_whatever_byte_is_wrong_the_archive_is_named(tmp_path):
    path = write_run(tmp_path, make_run(arrays={"x": np.random.default_rng(0).normal(size=40)}))
    archive = path.with_suffix(".npz")
    content = archive.read_bytes()
    messages = set()
    for at in range(0, len(content), 3):
        for damaged in (content[:at], content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 :]):
            archive.write_bytes(damaged)
            try:
                read_runs(tmp_path)  # a date in the archive, for instance, may be any
            except JaxalignError as error:
                messages.add(str(error).partition(" (")[0])
    assert messages == {f"{archive} is damaged"}


def test_versions_are_recorded():
    assert {"python", "jax", "jaxalign"} <= json.loads(json.dumps(make_run().to_json()))["versions"].keys()


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metrics", [1], r"damaged: metrics is \[1\]; expected an object"),
        ("metrics", {"mAP": "12.5"}, "damaged: metrics.mAP is '12.5'; expected a number"),
        (
            "metrics",
            {"tasks": {"emoji": [{"mAP": "x"}]}},
            r"metrics.tasks.emoji.1.mAP is 'x'; expected a number",
        ),
        ("metrics", {"mAP": 10**400}, "metrics.mAP is 1000"),
        ("metrics", {"mAP": 13}, "was changed after it was written"),
        ("settings", None, "damaged: settings is None; expected an object"),
        ("settings", SETTINGS | {"seed": 1}, "was changed after it was written"),
        ("left_out", [], r"left_out is \[\]; expected an object"),
        ("left_out", {"photos/all": "a.jpg"}, "left_out.photos/all is 'a.jpg'; expected a list of texts"),
        ("seconds", "1.0", "seconds is '1.0'; expected a number"),
        ("versions", {"jax": 1}, "versions.jax is 1; expected a text"),
        ("notes", "x", "notes is 'x'; expected a list of texts"),
        ("protocol", 3, "protocol is 3; expected a text"),
        ("results", "2", "results is '2'; expected a number"),
        ("arrays", 5, "arrays is 5; expected a list of texts"),
        ("checksum", None, "checksum is None; expected a text"),
    ],
)
def test_a_field_of_another_kind_is_one_line(tmp_path, field, value, message):
    path = write_run(tmp_path, make_run())
    edit(path, **{field: value})
    for read in (lambda: find_run(tmp_path, "image-retrieval", SETTINGS), lambda: read_runs(tmp_path)):
        with pytest.raises(JaxalignError, match=message) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"format": "jaxalign-run", "version": 1, "metrics": NaN}', "lacks protocol"),
        ('{"x": ' + "9" * 5000 + "}", "is not JSON"),
        ("\xff", "is not JSON"),
    ],
)
def test_what_is_no_run_is_one_line(tmp_path, text, message):
    path = write_run(tmp_path, make_run())
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(JaxalignError, match=message) as caught:
        find_run(tmp_path, "image-retrieval", SETTINGS)
    assert "\n" not in str(caught.value)


def test_nan_in_a_file_is_no_number(tmp_path):
    path = write_run(tmp_path, make_run())
    path.write_text(path.read_text().replace("12.5", "NaN"))
    with pytest.raises(JaxalignError, match=r"metrics.mAP is nan; expected a number"):
        read_runs(tmp_path)


def test_a_run_under_another_name_is_no_answer(tmp_path):
    other = write_run(tmp_path, make_run(settings=SETTINGS | {"method": "pca"}, metrics={"mAP": 99.0}))
    other.rename(tmp_path / Run("image-retrieval", SETTINGS, {}).file_name)
    assert find_run(tmp_path, "image-retrieval", SETTINGS) is None
    with pytest.raises(JaxalignError, match="holds another run than its name says"):
        read_runs(tmp_path)
    write_run(tmp_path, make_run())  # takes its place
    assert find_run(tmp_path, "image-retrieval", SETTINGS).metrics == {"mAP": 12.5}


def test_a_run_of_another_version_is_no_answer(tmp_path):
    versions = make_run().versions
    path = write_run(tmp_path, make_run(versions=versions | {"jaxalign": "0.0.1"}))
    assert find_run(tmp_path, "image-retrieval", SETTINGS) is None
    path.rename(tmp_path / Run("image-retrieval", SETTINGS, {}).file_name)
    assert find_run(tmp_path, "image-retrieval", SETTINGS) is None


def test_results_of_another_number_are_no_answer_and_stay(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr("jaxalign.eval.tasks.runs.RESULTS", 1)
        path = write_run(tmp_path, make_run(results=1))
        content = json.loads(path.read_text())
        for name in ("results", "notes", "arrays", "checksum"):  # what earlier programs did not write
            del content[name]
        path.write_text(json.dumps(content))
    assert find_run(tmp_path, "image-retrieval", SETTINGS) is None
    (run,) = read_runs(tmp_path)
    assert not run.is_current
    write_run(tmp_path, make_run())
    assert [run.is_current for run in read_runs(tmp_path)].count(True) == 1
    assert path.is_file()


def test_a_run_without_its_arrays_is_measured_again_and_still_shown(tmp_path):
    path = write_run(tmp_path, make_run(arrays={"x": np.zeros(3)}))
    path.with_suffix(".npz").unlink()
    assert find_run(tmp_path, "image-retrieval", SETTINGS) is None
    assert read_runs(tmp_path)[0].arrays == {}


@pytest.mark.parametrize(
    ("other", "changed"),
    [
        ({"x": np.arange(3.0), "y": np.zeros(2, np.float32)}, "x"),
        ({"x": np.zeros(3, np.float32), "y": np.zeros(2, np.float32)}, "x"),
        ({"x": np.zeros(4), "y": np.zeros(2, np.float32)}, "x"),
        ({"x": np.zeros(3), "y": np.zeros(2, np.float32), "z": np.zeros(1)}, "z"),
    ],
)
def test_other_arrays_than_were_written_are_one_line(tmp_path, other, changed):
    arrays = {"x": np.zeros(3), "y": np.zeros(2, ">f4")}
    archive = write_run(tmp_path, make_run(arrays=arrays)).with_suffix(".npz")
    np.testing.assert_array_equal(read_runs(tmp_path)[0].arrays["y"], arrays["y"])
    np.savez_compressed(archive, **other)
    for read in (lambda: find_run(tmp_path, "image-retrieval", SETTINGS), lambda: read_runs(tmp_path)):
        with pytest.raises(JaxalignError, match=rf"npz was changed after .* \(arrays.{changed}\); delete"):
            read()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_out", {"photos/all": ["b.jpg"]}),
        ("left_out", {}),
        ("seconds", 2.5),
        ("versions", {"python": "3.0"}),
        ("digests", {"x": "0" * 16}),
    ],
)
def test_whatever_a_run_says_is_not_changed_unseen(tmp_path, field, value):
    run = make_run(arrays={"x": np.zeros(3)}, left_out={"photos/all": ("a.jpg",)})
    edit(write_run(tmp_path, run), **{field: value})
    with pytest.raises(
        JaxalignError, match=r"was changed after it was written( \(left_out\))?; delete it and run again"
    ):
        read_runs(tmp_path)


def test_digests_that_were_taken_out_are_missed(tmp_path):
    path = write_run(tmp_path, make_run(arrays={"x": np.zeros(3)}))
    content = json.loads(path.read_text())
    del content["digests"]
    path.write_text(json.dumps(content))
    with pytest.raises(JaxalignError, match="was changed after it was written"):
        read_runs(tmp_path)


def test_a_run_of_before_there_were_digests_is_still_an_answer(tmp_path):
    """Its checksum was of the settings' digest, the metrics, the names of the arrays and the notes."""
    path = write_run(tmp_path, make_run(arrays={"x": np.zeros(3)}))
    content = json.loads(path.read_text())
    covered = [content["digest"], content["metrics"], ["x"], []]
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    del content["digests"]
    content["checksum"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    path.write_text(json.dumps(content))
    assert find_run(tmp_path, "image-retrieval", SETTINGS).metrics == {"mAP": 12.5}
    assert read_runs(tmp_path)[0].arrays["x"].shape == (3,)


def test_notes_are_kept(tmp_path):
    write_run(tmp_path, make_run(notes=("beside the number",)))
    assert find_run(tmp_path, "image-retrieval", SETTINGS).notes == ["beside the number"]


def test_arrays_without_bound_are_one_line(tmp_path, monkeypatch):
    path = write_run(tmp_path, make_run(arrays={"x": np.zeros(1000)}))
    monkeypatch.setattr("jaxalign.eval.tasks.runs.LARGEST_ARRAYS", 1000)
    with pytest.raises(JaxalignError, match="8,000 bytes of arrays; expected at most 1,000"):
        read_runs(tmp_path)
    monkeypatch.undo()
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1)) | {"shape": (1 << 60,)}
    with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(JaxalignError, match=r"npz is damaged"):
        read_runs(tmp_path)


def test_a_header_of_gigabytes_is_one_line(tmp_path):
    path = write_run(tmp_path, make_run(arrays={"x": np.zeros(1)})).with_suffix(".npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\2\0" + (3_500_000_000).to_bytes(4, "little"))
    with pytest.raises(JaxalignError, match=r"npz is damaged .* a header of 3,500,000,000 bytes"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((2, 2)), r"the array average_precision is float64 of shape \(2, 2\)"),
        (np.zeros(2, int), r"the array average_precision is int64 of shape \(2,\)"),
        (np.array("text"), r".*'average_precision.npy': an array of '<U4'; expected numbers.*"),
        (np.array([1j]), r".*'average_precision.npy': an array of '<c16'; expected numbers.*"),
    ],
)
def test_arrays_of_another_kind_are_one_line(tmp_path, array, problem):
    path = write_run(tmp_path, make_run(arrays={"average_precision": np.zeros(2)}))
    np.savez_compressed(path.with_suffix(".npz"), average_precision=array)
    with pytest.raises(JaxalignError, match=rf"npz is damaged \({problem}\); delete it"):
        read_runs(tmp_path)
