"""Search of one's own images: rankings by hand, features that are kept, and the image of both."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.datasets import load_split
from jaxalign.eval.features import image_features
from jaxalign.eval.figures.look import drawable, fitting_lines, png
from jaxalign.eval.figures.sheet import Tile, draw_sheet
from jaxalign.eval.search import Embeds, Term, find_library, rank, read_query_image, score_images
from jaxalign.eval.thumbnails import thumbnail

TOY = ["--model", "emoji-clip"]


def save(path, seed, size=(20, 14)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for i in range(4):
        save(folder / f"{i}.png", i)
    save(folder / "trip" / "a.png", 9)
    return folder


class Counted:
    """How many images were computed by a call of `find_library`."""

    def __init__(self, model, folder, store):
        self.arguments, self.options = (model, folder), {"store": store, "batch_size": 2}

    def __call__(self, **options):
        told = []
        library = find_library(*self.arguments, **self.options, **options, progress=told.append)
        return library, sum(told[1:])


def expected_features(model, folder, names):
    return model.encode_image([folder / name for name in names], projected=False)


def test_a_library_computes_only_what_is_new_or_has_changed(tmp_path, clip, photos):
    find = Counted(clip, photos, tmp_path / "store")
    library, computed = find()
    assert (library.names, computed) == (("0.png", "1.png", "2.png", "3.png", "trip/a.png"), 5)
    assert find()[1] == 0

    save(photos / "new.png", 20)
    save(photos / "1.png", 21)
    (photos / "2.png").unlink()
    os.utime(photos / "3.png", (1, 1))  # which is the same image as before
    library, computed = find()
    assert (library.names, computed) == (("0.png", "1.png", "3.png", "new.png", "trip/a.png"), 2)
    expected = expected_features(clip, photos, library.names)
    np.testing.assert_allclose(library.features, expected, rtol=1e-5, atol=1e-5)
    assert find()[1] == 0
    assert library.positions(photos / "trip" / ".." / "new.png") == [3]
    assert library.positions(tmp_path / "photos" / "trip" / "a.png") == [4]
    save(tmp_path / "new.png", 20)
    assert library.positions(tmp_path / "new.png") == []
    (tmp_path / "favourite.png").symlink_to(photos / "3.png")
    assert library.positions(tmp_path / "favourite.png") == [2]


def test_an_unreadable_image_is_named_left_out_and_found_when_it_is_repaired(tmp_path, clip, photos):
    (photos / "2.png").write_bytes(b"")
    find = Counted(clip, photos, tmp_path / "store")
    for _ in range(2):
        with pytest.raises(JaxalignError, match=r"^2\.png .*it is empty.*--unreadable leave-out"):
            find()
    library, computed = find(unreadable="leave-out")
    assert (library.left_out, library.names) == (("2.png",), ("0.png", "1.png", "3.png", "trip/a.png"))
    assert computed == 5
    assert find(unreadable="leave-out")[1] == 0
    with pytest.raises(JaxalignError, match=r"^2\.png .*it is empty"):
        find()
    save(photos / "2.png", 2)
    library, computed = find()
    assert (library.left_out, len(library.names), computed) == ((), 5, 1)
    expected = expected_features(clip, photos, library.names)
    np.testing.assert_allclose(library.features, expected, rtol=1e-5, atol=1e-5)


def test_what_a_new_decoder_reads_is_found_although_it_was_left_out(tmp_path, clip, photos, monkeypatch):
    Image.open(photos / "2.png").save(photos / "2.png", "JPEG")
    find = Counted(clip, photos, tmp_path / "store")
    with monkeypatch.context() as without:
        without.setattr("jaxalign.inputs.image_files.accepted_formats", lambda: ("PNG",))
        for _ in range(2):
            assert find(unreadable="leave-out")[0].left_out == ("2.png",)
    for _ in range(2):
        library, _ = find(unreadable="leave-out")
        assert (library.left_out, library.names[2]) == ((), "2.png")
        expected = expected_features(clip, photos, library.names)
        np.testing.assert_allclose(library.features, expected, rtol=1e-5, atol=1e-5)


def test_an_interrupted_library_is_continued_or_replaced(tmp_path, clip, photos):
    """A generation that stopped is finished where all its images are still there, else made anew."""

    class Stop(Exception):  # noqa: N818
        pass

    def stop(count):
        if count == 2:
            raise Stop

    find = Counted(clip, photos, tmp_path / "store")
    with pytest.raises(Stop):
        find_library(clip, photos, store=tmp_path / "store", batch_size=2, progress=stop)
    (photos / "0.png").unlink()
    library, computed = find()
    assert (len(library.names), computed) == (4, 4)
    with pytest.raises(Stop):
        find_library(clip, photos, store=tmp_path / "other", batch_size=2, progress=stop)
    library, computed = Counted(clip, photos, tmp_path / "other")()
    assert (len(library.names), computed) == (4, 4)
    assert len(list((tmp_path / "other").rglob("store.json"))) == 1


def test_a_folder_without_images_or_without_readable_ones(tmp_path, clip):
    with pytest.raises(JaxalignError, match="is not there"):
        find_library(clip, tmp_path / "none", store=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(JaxalignError, match="no images in"):
        find_library(clip, tmp_path / "empty", store=tmp_path)
    (tmp_path / "empty" / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(JaxalignError, match=r"^dangling\.jpg .*cannot be read: No such file"):
        find_library(clip, tmp_path / "empty", store=tmp_path)
    with pytest.raises(JaxalignError, match=r"none of the 1 images .*dangling\.jpg for one"):
        find_library(clip, tmp_path / "empty", store=tmp_path, unreadable="leave-out")


IDENTITY = Embeds(lambda x: x, lambda x: x, lambda x: x)


def test_rankings_by_hand():
    gallery = np.array([[1, 0], [0, 2], [3, 3], [1, 0], [0, 0]], np.float32)
    query = [Term(1, np.array([2, 0]))]
    scores = score_images(query, gallery, IDENTITY)
    np.testing.assert_allclose(scores, [1, 0, 0.5**0.5, 1, 0], rtol=1e-6, atol=1e-7)
    assert [hit.row for hit in rank(scores, first=9, leave_out={3})] == [0, 2, 1, 4]
    assert [hit.row for hit in rank(scores, first=9, at_least=0.5)] == [0, 3, 2]
    assert [hit.row for hit in rank(scores, first=1)] == [0]
    same = Embeds(lambda x: x[:, ::-1] * [0, 1] + [0.0, 1.0], IDENTITY.shared_image, IDENTITY.text)
    assert [hit.row for hit in rank(score_images(query, gallery, same), first=2, leave_out={3})] == [0, 1]


def test_scores_of_several_terms_by_hand():
    """The weighted mean of cosines; of images and texts together, that of standard scores."""
    gallery = np.array([[1, 0], [0, 1], [1, 1], [9, 9]], np.float32)
    half = 0.5**0.5
    images = [Term(2, np.array([1, 0])), Term(-1, np.array([0, 5]))]
    expected = np.array([2, -1, half, half]) / 3
    np.testing.assert_allclose(score_images(images, gallery, IDENTITY), expected, rtol=1e-6)
    embeds = Embeds(lambda x: x, lambda x: x[:, ::-1], lambda x: x @ np.eye(3, 2))  # a text has 3 numbers
    text = Term(3, np.array([1, 0, 7]), is_text=True)
    np.testing.assert_allclose(score_images([text], gallery, embeds), [0, 1, half, half], atol=1e-6)
    standard = lambda x: (x - x[:3].mean()) / x[:3].std()  # the last one is left out
    expected = (standard(np.array([1, 0, half, half])) + 3 * standard(np.array([0, 1, half, half]))) / 4
    found = score_images([Term(1, np.array([1, 0])), text], gallery, embeds, leave_out={3})
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    alike = score_images([images[0], text], np.ones((4, 2)), embeds)
    np.testing.assert_allclose(alike, 0, atol=1e-5)  # nothing tells them apart


@pytest.mark.long
def test_the_command_finds_compares_and_draws(tmp_path, photos, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # wide enough for a title on one line
    save(photos / "$1$ 日本 a very long name of an image.png", 0, (200, 30))
    results, out = tmp_path / "results.json", tmp_path / "found.png"
    arguments = ["search", str(photos), "--query", str(photos / "0.png"), "--sheet", str(out)]
    arguments += ["--compare", *TOY]
    store = ["--store", str(tmp_path / "store"), "--json", str(results)]
    assert cli.main([*arguments, *store, "--method", "pca", "--rank", "8", "--first", "3"]) == 0
    said = capsys.readouterr().out
    assert "0.png among 6 images" in said
    assert "after: pca (rank 8, paper)" in said
    found = json.loads(results.read_text())
    assert found["method"]["rank"] == 8
    for hits in found["results"].values():
        assert len(hits) == 3
        assert "0.png" not in [hit["file"] for hit in hits]
        assert sorted((hit["score"] for hit in hits), reverse=True) == [hit["score"] for hit in hits]
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size[0] > 1000
    assert cli.main([*arguments, *store, "--band", "0", "32"]) == 0
    assert "after: isoclip (0, 32)" in capsys.readouterr().out
    assert len(json.loads(results.read_text())["results"]["after"]) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["found.png", "photos", "results.json", "store"]


def test_photos_are_upright(tmp_path, clip):
    """As they are shown: a photo equals one that is stored turned, with an orientation that turns it back."""
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "photos" / "b.png", exif=exif)
    library = find_library(clip, tmp_path / "photos", store=tmp_path / "store")
    np.testing.assert_allclose(library.features[0], library.features[1], rtol=1e-5, atol=1e-5)
    stored = image_features(clip, load_split(f"folder:{tmp_path}/photos", "all"), store=tmp_path / "store")
    assert np.abs(stored.values[0] - stored.values[1]).max() > 0.01
    np.testing.assert_allclose(stored.values[0], library.features[0], rtol=1e-5, atol=1e-5)
    for name in ("a.png", "b.png"):
        query = read_query_image(str(tmp_path / "photos" / name))
        assert query.small.shape == (20, 30, 3)
        np.testing.assert_allclose(query.encode(clip), library.features[0], rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_own_results_and_other_files_are_no_photos(tmp_path, photos, capsys, monkeypatch):
    """Results of earlier searches lie in the folder; names of files may hold anything."""
    monkeypatch.chdir(photos)
    (photos / "a\x1b]0;b\n.jpg").write_bytes(b"none")
    (photos / "c.nef").write_bytes(b"none")
    (photos / "trip" / "up").symlink_to(photos)
    arguments = ["search", ".", "--query", "0.png", "--store", str(tmp_path / "store"), "--first", "9"]
    arguments += ["--json", str(tmp_path / "found.json"), *TOY]
    for out in ("search.png", "search.png", "other.png"):
        assert cli.main([*arguments, "--sheet", out]) == 0
        said = capsys.readouterr()
        assert "0.png among 5 images" in said.out
        assert "1 left out, unreadable: a\\x1b]0;b\\n.jpg" in said.out
        assert "\x1b]" not in said.out + said.err
        found = json.loads((tmp_path / "found.json").read_text())
        files = {hit["file"] for hit in found["results"]}
        assert files == {"1.png", "2.png", "3.png", "trip/a.png"}
    expected = {".nef": 1, "linked folder that is there already": 1, "written by jaxalign": 2}
    assert found["not_read"] == expected | {"written by jaxalign": 1}  # other.png was not there yet
    assert ".: not read: 1 .nef, 1 linked folder that is there already, 1 written by jaxalign" in said.err
    assert cli.main([*arguments, "--sheet", "0.png"]) == 0  # which is about to be overwritten
    assert "0.png among 4 images" in capsys.readouterr().out


def test_a_pipe_is_no_query(tmp_path, photos, capsys):
    os.mkfifo(tmp_path / "query.jpg")
    arguments = [
        "search",
        str(photos),
        "--query",
        str(tmp_path / "query.jpg"),
        "--sheet",
        f"{tmp_path}/s.png",
        *TOY,
    ]
    assert cli.main(arguments) == 1
    assert "query.jpg is a pipe; expected a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--sheet", "found.gif"], 2, "--sheet is found.gif; expected a file name that ends in .png"),
        (["--page", "found.htm"], 2, "--page is found.htm; expected a file name that ends in .html"),
        (["--min-score", "nan"], 2, "--min-score is nan; expected a number"),
        (["--weights", "1", "2"], 2, "--weights has 2 numbers for 1 images and texts"),
        (["--weights", "0"], 2, "--weights has 0; expected numbers above 0"),
        (["--text", " "], 2, "a text is empty; expected what an image shows"),
        (["--like-row", "1"], 2, "--like-row N and --from FILE go together; got one of both"),
        (["--like-row", "1", "--from", "empty.jpg"], 1, "empty.jpg is not JSON"),
        (["--paths", "--compare"], 2, "--paths are those of one ranking, and --compare has two"),
        (["-0", "--json", "-"], 2, "--paths and --json - both go to standard output"),
        (["--rank", "8"], 2, "--rank, --subspace and --class-names are about pca; the method is image-image"),
        (["--method", "pre", "--band", "0", "9"], 2, "--band is about isoclip; the method is pre"),
        (["--first", "0"], 2, "--first is 0; expected 1 or more"),
        (["--query", "nowhere.jpg"], 1, "the query nowhere.jpg is not there; expected an image file"),
        (["--query", "empty.jpg"], 1, "the query empty.jpg cannot be read as an image: it is empty"),
        (["--sheet", "no/such/x.png"], 1, "cannot write the file no/such/x.png: there is no folder no/such"),
        (["--method", "isoclip"], 1, "the paper prints no image band for emoji-clip; pass one"),
        (["--band", "100", "100"], 1, "the band (100, 100) leaves none of the 64 singular directions"),
    ],
)
def test_bad_input_is_one_line(arguments, status, message, tmp_path, photos, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jpg").write_bytes(b"")
    query = [] if "--query" in arguments else ["--query", str(photos / "0.png")]
    assert cli.main(["search", str(photos), *query, *arguments, *TOY, "--store", "store"]) == status
    assert capsys.readouterr().err.startswith(f"jaxalign: error: {message}")


def test_a_folder_of_the_query_alone(tmp_path, photos, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(photos / "0.png", alone)
    where = ["--store", str(tmp_path / "store"), "--sheet", str(tmp_path / "found.png")]
    assert cli.main(["search", str(alone), "--query", str(alone / "0.png"), *where, *TOY]) == 1
    assert "no image but the query; there is nothing to find" in capsys.readouterr().err
    assert not (tmp_path / "found.png").exists()


def test_usage_needs_a_query(photos, capsys):
    assert cli.main(["search", str(photos)]) == 2
    assert "expected one or more of --query, --text and --like-row" in capsys.readouterr().err


def test_parts_of_the_sheet():
    long = "a very long name of an image, with a 日 in it " * 5
    lines = fitting_lines(long, 1.6, 8)
    assert "".join(lines) == drawable(long)
    narrow = fitting_lines("W" * 60, 1.6, 8)
    assert max(map(len, narrow)) < min(map(len, lines[:-1])) <= 32
    assert drawable("$1$ 日 é") == "$1$ U+65E5 é"
    upright = Image.new("RGB", (40, 20))
    upright.getexif()[0x0112] = 6  # turned by 90 degrees
    assert thumbnail(upright, 20).shape == (20, 10, 3)
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (thumbnail(clear, 4) == 255).all()
    cells = [Tile(clear, "$x$", 0.5, True)] * 7
    content = png(draw_sheet(upright, "日本.png", ("before", cells), ("after", cells[:1])))
    assert content.startswith(b"\x89PNG")
