"""`jaxalign search` as people and programs use it: queries of all kinds, odd names, paths and the page."""

import io
import json
import os
import re
import shlex
import shutil
import sys
import types
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

import jaxalign as ja
from jaxalign.eval import cli
from jaxalign.eval.cli import search_output
from jaxalign.eval.cli.printing import write_paths
from jaxalign.eval.search import find_library
from jaxalign.eval.search.page import file_uri
from jaxalign.weights import availability

ODD = ["<img src=x onerror=alert(1)>.png", "a\nb.png", "-rf.png", 'it\'s "50%" #1?.png', "\x1b]0;t.png"]
ODD_BYTES = os.fsdecode(b"caf\xe9.png")  # in Latin-1


def save(path, seed, size=(20, 14), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture(scope="module")
def toy():
    return ja.load("emoji-clip")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Images with all that an archive has: to be read, not changed."""
    folder = tmp_path_factory.mktemp("archive")
    for i, name in enumerate(("0.png", "1.png", "2.jpg", "trip/a.png", *ODD, ODD_BYTES)):
        save(folder / name, i)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "turned.jpg", 20, exif=exif)
    (folder / "trip" / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    (folder / "empty.png").write_bytes(b"")
    (folder / "raw.nef").write_bytes(b"raw")
    (folder / "notes.txt").write_text("no image")
    for name in ("@eaDir/0.png", ".thumbnails/0.png", ".Trash-1000/files/0.png", "$RECYCLE.BIN/0.png"):
        save(folder / name, 30)
    save(folder / ".trashed-99-0.png", 31)
    return folder


@pytest.fixture
def search(toy, archive, tmp_path_factory, monkeypatch, capfdbinary):
    """Runs the command with the toy; gives its exit status, standard output, and what it wrote as JSON."""
    monkeypatch.setattr(ja, "load", lambda where, **options: toy)
    place = tmp_path_factory.getbasetemp()

    def run(*arguments, folder=archive, status=0):
        json_file = place / "found.json"
        json_file.unlink(missing_ok=True)
        given = ["search", str(folder), *map(str, arguments), "--store", str(place / "search-store")]
        capfdbinary.readouterr()
        got = cli.main([*given, "--model", "emoji-clip", "--json", str(json_file)])
        said = capfdbinary.readouterr()
        assert got == status, said.err
        found = json.loads(json_file.read_text()) if json_file.exists() else None
        return types.SimpleNamespace(out=said.out, err=said.err.decode(), json=found, file=json_file)

    return run


def names(found):
    return [hit["file"] for hit in found.json["results"]]


def cosine(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.long
def test_everything_in_an_archive_is_found_or_named(search, archive):
    found = search("--query", archive / "0.png", "--first", "99")
    assert sorted(names(found)) == sorted(["1.png", "2.jpg", "trip/a.png", "turned.jpg", ODD_BYTES, *ODD])
    assert found.json["left_out"] == ["empty.png", "trip/broken.jpg"]
    assert found.json["not_read"] == {".nef": 1}
    assert found.json["score"] == "cosine"
    assert b"2 left out, unreadable: empty.png, trip/broken.jpg" in found.out
    assert b"\x1b" not in found.out
    assert b"caf\\udce9.png" in found.out


@pytest.mark.long
def test_a_text_is_compared_by_the_original_projectors(search, archive, toy):
    found = search("--text", "a red heart", "--first", "2")
    text = toy.encode_text(["a red heart"])[0]
    for hit in found.json["results"]:
        with Image.open(archive / hit["file"]) as image:
            image = image.transpose(Image.Transpose.ROTATE_270) if hit["file"] == "turned.jpg" else image
            assert hit["score"] == pytest.approx(cosine(toy.encode_image([image])[0], text), abs=1e-6)
    assert found.json["method"] is None
    assert "tokens" not in found.err
    assert "the model reads the first 18 tokens" in search("--text", "red " * 19).err
    message = search("--text", "x", "--band", "1", "2", status=2).err
    assert "--compare, --method and its options are about images; the query has none" in message


@pytest.mark.long
def test_images_and_texts_with_signs_and_weights(search, archive):
    terms = ["--query", archive / "0.png", archive / "1.png", "--text", "red", "--minus-text", "blue"]
    found = search(*terms, "--weights", "1", "2", "0.5", "3", "--method", "image-image")
    assert found.json["score"] == "standard score"
    assert [term["weight"] for term in found.json["query"]] == [1, 2, 0.5, -3]
    assert b'0.png + 2 1.png + 0.5 "red" - 3 "blue" among' in found.out
    assert not {"0.png", "1.png"} & set(names(found))
    one = search("--query", archive / "0.png", "--minus-query", archive / "1.png", "--first", "99")
    other = search("--query", archive / "1.png", "--minus-query", archive / "0.png", "--first", "99")
    assert one.json["score"] == "mean cosine"
    assert {h["file"]: round(h["score"], 5) for h in one.json["results"]} == {
        h["file"]: -round(h["score"], 5) + 0 for h in other.json["results"]
    }


def test_an_image_from_standard_input(search, archive, monkeypatch):
    def pipe(content):
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(
            buffer=io.BytesIO(content), closed=False, isatty=lambda: False, fileno=lambda: -1))  # fmt: skip

    again = io.BytesIO()
    Image.open(archive / "0.png").save(again, "BMP")  # the same image as another file
    pipe(again.getvalue())
    found = search("--query", "-")
    assert (names(found)[0], found.json["query"][0]["image"]) == ("0.png", "-")
    assert found.json["results"][0]["score"] == pytest.approx(1, abs=1e-5)
    pipe((archive / "0.png").read_bytes())  # which only its content tells from others
    assert "0.png" not in names(search("--query", "-"))
    with (archive / "0.png").open("rb") as file:  # which is a file of the folder
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        assert "0.png" not in names(search("--query", "-"))
    assert "standard input is given twice" in search("--query", "-", "-", status=2).err
    monkeypatch.setattr("sys.stdin", None)
    assert "standard input, which has nothing" in search("--query", "-", status=1).err


def test_results_of_an_earlier_search_are_queries(search, archive, tmp_path, monkeypatch):
    monkeypatch.chdir(archive)
    first = search("--query", "0.png", folder=".")
    kept = shutil.copy(first.file, tmp_path / "kept.json")
    monkeypatch.chdir(tmp_path)
    for row in (1, 2):
        wanted = first.json["results"][row - 1]["file"]
        found = search("--like-row", row, "--from", kept)
        assert found.json["query"][0]["image"].endswith(f"/{wanted}")
        assert wanted not in names(found)
    assert "--like-row is 99; " in search("--like-row", "99", "--from", kept, status=1).err
    (tmp_path / "other.json").write_text('{"results": [3]}')
    assert "is no result of" in search("--like-row", "1", "--from", tmp_path / "other.json", status=1).err


def test_the_query_and_all_links_to_it_are_left_out(search, archive, tmp_path):
    folder = tmp_path / "links"
    shutil.copytree(archive / "trip", folder)
    os.link(folder / "a.png", folder / "hard.png")
    (folder / "soft.png").symlink_to(folder / "a.png")
    shutil.copy(folder / "a.png", folder / "copy.png")
    (tmp_path / "outside.png").symlink_to(folder / "hard.png")
    for query in ("a.png", "hard.png", "soft.png", "../outside.png"):
        assert names(search("--query", folder / query, folder=folder)) == ["copy.png"]


@pytest.mark.parametrize("option", ["--paths", "-0", "--null"])
def test_paths_alone_are_what_other_programs_open(option, search, archive, monkeypatch):
    monkeypatch.chdir(archive)
    end = b"\n" if option == "--paths" else b"\0"
    for folder in (".", str(archive), "../" + archive.name):
        found = search("--query", "0.png", option, "--first", "99", folder=folder)
        assert "raw.nef" not in found.err
        assert "1 .nef" in found.err
        if end == b"\n":
            assert os.fsencode(found.json["results"][0]["file"]) in found.out
            continue
        paths = found.out.split(end)
        assert paths.pop() == b""
        assert [Path(os.fsdecode(path)).resolve() for path in paths] == [
            archive / name for name in names(found)
        ]
        assert all(os.path.exists(path) and not path.startswith(b"-") for path in paths)


def test_the_lowest_score(search, archive):
    found = search("--query", archive / "0.png", "--first", "99")
    third = found.json["results"][2]["score"]
    assert len(names(search("--query", archive / "0.png", "--min-score", third))) == 3
    nothing = search("--query", archive / "0.png", "--min-score", "2", "--paths")
    assert (nothing.out, names(nothing)) == (b"", [])
    assert "nothing has a score of 2; the highest is 0." in nothing.err


def test_the_page_opens_files_and_takes_names_for_nothing_else(search, archive, tmp_path, monkeypatch):
    page, opened = tmp_path / "found.html", []
    monkeypatch.setattr(search_output.webbrowser, "open", lambda uri: opened.append(uri) or True)
    found = search("--query", archive / "0.png", "--first", "99", "--page", page, "--open")
    assert opened == [page.as_uri()]
    text = page.read_text()
    assert "<img src=x" not in text
    assert text.count("<img ") == len(names(found)) + 1
    assert set(re.findall(r'<img src="([a-z:/]*)', text)) == {"data:image/webp"}
    links = re.findall(r'href="file://([^"]*)"', text)
    assert [unquote(link, errors="surrogateescape") for link in links[1:]] == [
        str(archive.resolve() / name) for name in names(found)
    ]
    assert "2 left out, unreadable: empty.png" in text
    assert len(text) < 300_000
    search("--text", "red", "--open")
    assert Path(unquote(opened[-1].removeprefix("file://"))).read_text().count("<img ") == 10
    shutil.rmtree(Path(opened[-1].removeprefix("file://")).parent)
    monkeypatch.setattr(search_output.webbrowser, "open", lambda uri: False)
    assert "no browser could be started; open" in search("--text", "red", "--page", page, "--open").err


def test_addresses_of_files(tmp_path):
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "below")
    assert (
        file_uri(tmp_path / "link" / ".." / "50% #1?.png")
        == f"file://{tmp_path.resolve()}/real/50%25%20%231%3F.png"
    )


def test_patterns_leave_out_files_and_folders(search, archive):
    found = search(
        "--query", archive / "0.png", "--first", "99", "--exclude", "trip/", "*.jpg", "a/*", "[0-9].png"
    )
    assert sorted(names(found)) == sorted([ODD_BYTES, *ODD])
    assert found.json["not_read"] == {".nef": 1, "excluded": 5}
    by_path = search("--query", archive / "0.png", "--first", "99", "--exclude", "trip/a*")
    assert "trip/a.png" not in names(by_path)
    assert by_path.json["left_out"] == ["empty.png", "trip/broken.jpg"]


def test_a_closed_folder_is_named(search, archive, tmp_path, monkeypatch):
    shutil.copytree(archive / "trip", tmp_path / "all" / "open")
    (tmp_path / "all" / "shut").mkdir()
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith("/shut"):  # root may look into every folder
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = search("--text", "red", folder=tmp_path / "all")
    assert found.json["left_out"] == ["open/broken.jpg", "shut/"]
    refused = search("--text", "red", "--unreadable", "fail", folder=tmp_path / "all", status=1)
    assert "shut cannot be read: Permission denied" in refused.err


@pytest.mark.long
def test_a_folder_finds_what_its_subfolder_has(toy, archive, tmp_path, monkeypatch):
    """One index, by content, however a folder is written."""
    computed = []
    monkeypatch.chdir(archive)
    monkeypatch.setenv("HOME", str(archive.parent))
    for folder, new in (
        (archive / "trip", 2), (archive, 11), ("trip/..", 0), ("~/" + archive.name + "/", 0),
    ):  # fmt: skip
        told = []
        library = find_library(toy, folder, store=tmp_path, unreadable="leave-out", progress=told.append)
        assert sum(told[1:]) == new
        computed.append(library.names)
    assert computed[1] == computed[2] == computed[3]


def test_without_a_model_the_first_that_was_fetched(monkeypatch, archive, capsys, toy):
    loaded = []
    monkeypatch.setattr(ja, "load", lambda where, **options: loaded.append(where) or toy)
    there = {"dinov2-base", "siglip-base-patch16-224", "clip-vit-base-patch32"}
    find = lambda spec: types.SimpleNamespace(state="cached" if spec.name in there else "hub")
    monkeypatch.setattr(availability, "find_model", find)
    arguments = [
        "search",
        str(archive),
        "--query",
        str(archive / "0.png"),
        "--store",
        str(archive / ".store"),
    ]
    order = ["clip-vit-base-patch32", "siglip-base-patch16-224", "dinov2-base"]
    for name in order:
        assert cli.main(arguments) == 0
        assert f"The model is {name}, the first that has been fetched" in capsys.readouterr().err
        there.remove(name)
    assert loaded == order
    assert cli.main(arguments) == 1
    message = capsys.readouterr().err
    assert "`jaxalign fetch clip-vit-base-patch16` downloads one (598 MB, licence MIT)" in message
    assert "--model emoji-clip" in message
    there |= {"clip-vit-base-patch32", "clip-vit-base-patch16"}
    assert availability.first_cached().name == "clip-vit-base-patch16"


@pytest.mark.long
def test_the_examples_of_the_page_run(archive, toy, tmp_path, monkeypatch, capfd):
    page = (Path(__file__).parents[1] / "docs" / "search.md").read_text()
    for place in ("photos", "photos/trip"):
        for i, name in enumerate(("goose.jpg", "duck.jpg", "beach.jpg", "1.png")):
            save(tmp_path / place / name, len(place) + i)
            save(tmp_path / name, len(place) + i)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ja, "load", lambda where, **options: toy)
    monkeypatch.setattr(search_output.webbrowser, "open", lambda uri: True)
    commands = re.findall(r"^(?:curl .*\| )?jaxalign (search .*?)(?: \|.*)?$", page, re.M)
    assert len(commands) == 12
    for command in commands:
        with (tmp_path / "goose.jpg").open("rb") as file:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
            arguments = [*shlex.split(command), "--store", "store", "--model", "emoji-clip"]
            arguments += ["--band", "0", "9"] if "--compare" in command else []
            assert cli.main(arguments) == 0, capfd.readouterr().err


def test_paths_on_a_terminal_are_printable(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdout", Terminal())
    write_paths(["a\x1b]0;b.png"], b"\n")
    assert sys.stdout.getvalue() == "a\\x1b]0;b.png\n"
