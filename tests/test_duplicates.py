"""Copies among one's own images: planted ones are found and others are not, in blocks as all at once."""

import contextlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.cli.duplicates import Duplicates
from jaxalign.eval.datasets import file_contents
from jaxalign.eval.datasets.emoji.sprites import read_sprites
from jaxalign.eval.search import duplicates, signatures
from jaxalign.eval.search.duplicates import ALIKE, MOST, NEAR, find_copies, find_duplicates
from jaxalign.eval.search.signatures import LENGTH, SIDE, differences, signature, vectors

SIZE = 240, 180
SAME = 1 - ALIKE


def scene(seed, sprites):
    """Three emoji of `sprites` before a texture of many frequencies, as photos have them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] / SIZE[0]
    pixels = np.full((SIZE[1], SIZE[0], 3), 128.0)
    for _ in range(12):
        angle, frequency = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 8)
        wave = np.sin(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(0, 6))
        pixels += wave[..., None] * rng.normal(0, 30, 3) / frequency**0.5
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    for _ in range(3):
        add(image, sprites[rng.integers(len(sprites))], rng.integers(0, 100, 2), int(rng.integers(40, 90)))
    return image


def add(image, sprite, place, side):
    drawn = sprite.resize((side, side))
    image.paste(drawn, tuple(map(int, place)), drawn)
    return image


def cut(image, *ends):
    left, top, right, bottom = (round(end * of) for end, of in zip(ends, image.size * 2, strict=True))
    return image.crop((left, top, image.width - right, image.height - bottom))


def resized(image, factor):
    return image.resize((round(image.width * factor), round(image.height * factor)))


COPIES = {
    "25.jpg": lambda image: resized(image, 0.25),
    "50.png": lambda image: resized(image, 0.5),
    "75.webp": lambda image: resized(image, 0.75),
    "q30.jpg": lambda image: image,
    "each.jpg": lambda image: cut(image, 0.02, 0.02, 0.02, 0.02),
    "corner.jpg": lambda image: cut(image, 0.02, 0.02, 0, 0),
    "side.png": lambda image: cut(image, 0, 0, 0.02, 0),
    "dark.jpg": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "all.jpg": lambda image: resized(
        ImageEnhance.Brightness(cut(image, 0.01, 0, 0.01, 0.01)).enhance(1.05), 0.6
    ),
}


@pytest.fixture(scope="module")
def sprites():
    return [sprite for emoji, style, sprite in read_sprites("test") if style == "noto"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXALIGN_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(file_contents, "_SETTLED", -(10**18))  # what has just been written is remembered, too
    monkeypatch.setattr(duplicates, "tell_not_read", lambda origin, what: None)
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def names(found):
    return [[member.file.name for member in group] for group in found.groups]


def test_planted_copies_are_found_and_no_others(folder, sprites):
    for i in range(4):
        image = scene(i, sprites)
        image.save(folder / f"{i}.png")
        for ending, change in COPIES.items():
            change(image).save(folder / f"{i}-{ending}", quality=30 if "q30" in ending else 85)
    for i in range(
        4, 12
    ):  # the same scene with one thing more, with another, a moment later, or without colours
        image, rng = scene(i, sprites), np.random.default_rng(i)
        image.save(folder / f"{i}.png")
        place, side = rng.integers(20, 100, 2), int(rng.integers(45, 70))
        one, other = rng.choice(len(sprites), 2, replace=False)
        add(image.copy(), sprites[one], place, side).save(folder / f"{i}-one.png")
        add(image.copy(), sprites[other], place, side).save(folder / f"{i}-other.png")
        add(image.copy(), sprites[one], place + np.array((0, 20)), side).save(folder / f"{i}-later.png")
        cut(image, 0.07, 0, 0, 0).save(folder / f"{i}-left.jpg")
        image.convert("L").save(folder / f"{i}-grey.jpg")
    found = find_duplicates(folder)
    groups = {frozenset(group) for group in names(found)}
    assert groups == {frozenset((f"{i}.png", *(f"{i}-{copy}" for copy in COPIES))) for i in range(4)}
    assert all(group[0].file.name.endswith(".png") for group in found.groups)
    found = find_duplicates(folder, alike=0.9)
    assert 4 * 5 < sum(map(len, found.groups)) < 4 * 9
    for group in found.groups:
        similarities = [member.similarity for member in group]
        assert similarities[0] == 1
        assert similarities == sorted(similarities, reverse=True)
        assert min(similarities) >= 0.9


def test_small_images_are_compared_as_far_as_they_show_anything(folder, sprites):
    for i in range(0, 60, 6):
        icon = add(Image.new("RGB", (48, 48), "white"), sprites[i], (0, 0), 48)
        icon.save(folder / f"{i}.png")
        for factor in (0.25, 0.5, 0.75):
            resized(icon, factor).save(folder / f"{i}-{factor}.png")
    groups = names(find_duplicates(folder))
    assert all(len({name.split(".")[0].split("-")[0] for name in group}) == 1 for group in groups)
    assert sum(len(group) - 1 for group in groups) >= 28  # of 30


def test_flat_images_and_slopes_are_copies_only_by_their_bytes(folder):
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = np.full((60, 80, 3), rng.integers(0, 256, 3)) + rng.normal(0, i % 3, (60, 80, 3))
        if i % 2:
            pixels = pixels + np.linspace(0, 100, 80)[:, None]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    Image.new("RGB", (300, 4)).save(folder / "thin.png")
    shutil.copy(folder / "3.png", folder / "same.png")
    found = find_duplicates(folder)
    assert names(found) == [["3.png", "same.png"]]
    assert [member.identical for member in found.groups[0]] == [True, True]


def fading(count, sprites):
    """Images of which each is a copy of the next, and the last is none of the first."""
    one, other = (np.asarray(scene(seed, sprites), float) for seed in (50, 51))
    mixed = [one + (other - one) * 0.4 * i / (count - 1) for i in range(count)]
    return [Image.fromarray(image.astype(np.uint8)) for image in mixed]


def test_a_chain_makes_several_groups_each_like_its_first(folder, sprites):
    chain = fading(9, sprites)
    made = np.stack([np.frombuffer(signature(image), np.uint8) for image in chain])
    sides = np.full(9, 180)
    steps = [differences(made[i], made[i + 1 : i + 2], sides[:1], SAME)[0] for i in range(8)]
    assert max(steps) < SAME < differences(made[0], made, sides, SAME)[-1]
    for i, image in enumerate(chain):
        image.save(folder / f"{i}.png")
    found = find_duplicates(folder)
    assert len(found.groups) > 1
    shown = {f"{i}.png": made[i] for i in range(9)}
    for group in found.groups:
        others = np.stack([shown[member.file.name] for member in group])
        assert (differences(others[0], others, sides[: len(group)], SAME) <= SAME).all()


def brute_force(signatures, sizes):
    """The copies as their definition says, one image at a time."""
    vector, varied = vectors(signatures)
    first = np.arange(len(signatures))
    for i in range(len(signatures)):
        ones = [j for j in range(i) if first[j] == j and varied[i] and varied[j]]
        ratio = [np.log(w / h) for w, h in sizes]
        slack = 0.05 + 1 / sizes.min(1)
        ones = [j for j in ones if abs(ratio[i] - ratio[j]) <= max(slack[i], slack[j])]
        ones = [j for j in ones if vector[i] @ vector[j] >= NEAR]
        ones = sorted(ones, key=lambda j: -(vector[i] @ vector[j]))[:MOST]
        differ = [
            differences(signatures[i], signatures[j][None], sizes[[i, j]].min(keepdims=True)[0], SAME)[0]
            for j in ones
        ]
        if differ and min(differ) <= SAME:
            first[i] = ones[int(np.argmin(differ))]
    return first


def test_blocks_change_nothing(sprites, monkeypatch):
    images = [resized(scene(i % 11, sprites), 1 - 0.03 * (i // 11)) for i in range(44)]
    images += [image.transpose(Image.Transpose.ROTATE_90) for image in images[:3]]
    images += [Image.new("RGB", (90, 70), "red")] * 2 + fading(9, sprites)
    made = np.stack([np.frombuffer(signature(image), np.uint8) for image in images])
    sizes = np.array([image.size for image in images])
    expected = brute_force(made, sizes)
    assert len(set(expected.tolist())) < 25
    for block, columns in ((1, 16384), (7, 5), (512, 3), (512, 16384)):
        monkeypatch.setattr(duplicates, "_COLUMNS", columns)
        first, similarity = find_copies(made, sizes, block=block)
        np.testing.assert_array_equal(first, expected)
        assert (similarity[first == np.arange(len(made))] == 1).all()


def test_a_photo_is_compared_upright_and_its_size_is_upright(folder, sprites):
    image, exif = scene(3, sprites), Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "upright.png")
    image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif, quality=80)
    (group,) = find_duplicates(folder).groups
    assert [(member.file.name, member.size) for member in group] == [
        ("upright.png", SIZE),
        ("turned.jpg", SIZE),
    ]


def test_links_are_no_copies_and_the_unreadable_is_named(folder, tmp_path, sprites):
    scene(0, sprites).save(folder / "b.png")
    os.link(folder / "b.png", folder / "a.png")
    (folder / "link.png").symlink_to("b.png")
    scene(1, sprites).save(tmp_path / "elsewhere.png")
    (folder / "out.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    for name in ("broken.jpg", "broken too.jpg"):
        (folder / name).write_bytes(b"no image")
    found = find_duplicates(folder)
    assert (found.groups, found.images, found.links) == ((), 2, 2)
    assert found.left_out == ("broken too.jpg", "broken.jpg", "gone.png")
    shutil.copy(folder / "b.png", folder / "c.png")
    assert names(find_duplicates(folder)) == [["a.png", "c.png"]]


def test_nothing_is_read_twice_and_a_bad_memory_does_no_harm(folder, sprites, monkeypatch):
    for i in range(3):
        scene(i, sprites).save(folder / f"{i}.png")
        scene(i, sprites).save(folder / f"{i}.jpg")
    read, made = [], signature
    monkeypatch.setattr(signatures, "signature", lambda image: read.append(image.size) or made(image))
    first, told = find_duplicates(folder), []
    assert (len(first.groups), len(read)) == (3, 6)
    (folder / "0.png").rename(folder / "moved.png")
    assert len(find_duplicates(folder, progress=told.append).groups) == 3
    assert (len(read), sum(told)) == (6, 6)
    place = file_contents.memory()
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        rows = (
            "UPDATE signatures_1 SET signature = 'x' WHERE width = 240",
            "UPDATE signatures_1 SET height = -1",
        )
        for row in rows:
            database.execute(row)
    assert len(find_duplicates(folder).groups) == 3
    assert len(read) == 12
    place.write_bytes(b"no database")
    assert len(find_duplicates(folder).groups) == 3
    shutil.rmtree(place.parent)
    place.parent.write_bytes(b"no folder")
    assert len(find_duplicates(folder).groups) == 3


@pytest.fixture
def copies(folder, sprites, monkeypatch):
    """Two groups; the names of one hold what a page and a terminal would act upon."""
    image = scene(0, sprites)
    image.save(folder / "a\x1b[31m<b>&.png")
    shutil.copy(folder / "a\x1b[31m<b>&.png", folder / "line\nbreak.png")
    scene(1, sprites).save(folder / "large.png")
    resized(scene(1, sprites), 0.5).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"")
    monkeypatch.chdir(folder.parent)
    return folder


def test_the_command_gives_a_table_json_and_a_page(copies, capsys):
    assert cli.main(["duplicates", "photos", "--json", "found.json", "--page", "found.html"]) == 0
    said = capsys.readouterr()
    assert "4 images: 2 copies in 2 groups, " in said.out
    assert "1 left out, unreadable: broken.jpg" in said.out
    assert "a\\x1b[31m<b>&.png" in said.out
    assert "\x1b" not in said.out
    found = json.loads((copies.parent / "found.json").read_text())
    assert (found["folder"], found["images"], found["left_out"]) == (str(copies), 4, ["broken.jpg"])
    same, resized_ones = found["groups"]
    size = (copies / "line\nbreak.png").stat().st_size
    assert same[1] == {
        "file": "line\nbreak.png",
        "width": 240,
        "height": 180,
        "bytes": size,
        "similarity": 1.0,
        "same_bytes": True,
    }
    assert [(image["file"], image["same_bytes"]) for image in resized_ones] == [
        ("large.png", True),
        ("small.png", False),
    ]
    page = (copies.parent / "found.html").read_text(encoding="utf-8")
    assert "a\\x1b[31m&lt;b&gt;&amp;.png" in page
    assert "\x1b" not in page
    assert "120 x 90" in page
    assert page.count("data:image/webp") == 4
    assert cli.main(["duplicates", "photos", "--groups", "1", "--json", "-"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["groups"] == found["groups"]
    assert "The table and the page show the first 1; " in said.err


def test_paths_are_for_other_programs(copies, capfdbinary):
    (copies / "a\x1b[31m<b>&.png").unlink()
    assert cli.main(["duplicates", "photos", "--paths"]) == 0
    said = capfdbinary.readouterr()
    assert said.out == b"photos/large.png\nphotos/small.png\n\n"
    assert b"3 images: 1 copy in 1 group, " in said.err
    assert cli.main(["duplicates", "photos", "-0"]) == 0
    assert capfdbinary.readouterr().out == b"photos/large.png\0photos/small.png\0\0"
    assert cli.main(["duplicates", "photos", "-0", "--omit-first", "--exclude", "line*"]) == 0
    assert capfdbinary.readouterr().out == b"photos/small.png\0"
    assert sorted(os.listdir(copies)) == ["broken.jpg", "large.png", "line\nbreak.png", "small.png"]


def test_a_folder_without_copies_or_images(folder, tmp_path, capsys):
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    assert cli.main(["duplicates", str(folder)]) == 0
    assert "1 image: no copies" in capsys.readouterr().out
    (folder / "a.png").write_bytes(b"")
    found = find_duplicates(folder)
    assert (found.images, found.groups, found.left_out) == (0, (), ("a.png",))
    (tmp_path / "none").mkdir()
    with pytest.raises(JaxalignError, match="there are no images in"):
        find_duplicates(tmp_path / "none")


def test_the_similarity_of_a_copy_is_that_of_the_library():
    assert Duplicates(Path()).min_similarity == ALIKE


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--min-similarity", "0.5"], 2, "--min-similarity is 0.5; expected a number from 0.67 to 1"),
        (["--groups", "0"], 2, "--groups is 0; expected 1 or more"),
        (["--page", "x.png"], 2, "--page is x.png; expected a file name that ends in .html"),
        (["--omit-first"], 2, "--omit-first is about --paths and -0; give one of them"),
        (["--paths", "--json", "-"], 2, "--paths and --json - both go to standard output"),
        (["--json", "no/such.json"], 1, "cannot write the file no/such.json: there is no folder no"),
    ],
)
def test_bad_input_is_one_line(arguments, status, message, folder, capsys):
    assert cli.main(["duplicates", str(folder), *arguments]) == status
    assert capsys.readouterr().err.startswith(f"jaxalign: error: {message}")


def test_the_signature_of_a_transparent_image_is_that_on_white(sprites):
    on_white = add(Image.new("RGB", sprites[0].size, "white"), sprites[0], (0, 0), sprites[0].width)
    clear, white = (np.frombuffer(signature(image), np.uint8) for image in (sprites[0], on_white))
    assert clear.shape == (LENGTH,)
    assert np.abs(clear.astype(int) - white).max() <= 3
    assert clear[: SIDE * SIDE].max() > 240
