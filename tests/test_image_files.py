"""Which files are images, how they are read, and how much memory and time that may take."""

import importlib.util
import io
import os
import shutil
import socket
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin
from test_resampling import peak

from jaxalign.errors import JaxalignError
from jaxalign.inputs import image_files, image_formats
from jaxalign.inputs.byte_budget import ByteBudget
from jaxalign.inputs.image_files import opened_image, upright
from jaxalign.inputs.image_processing import ImageProcessor

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n{} loop\nshowpage\n%%EOF\n"


def read(path):
    with opened_image(path, "it") as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def formats_anew():
    """Look anew which formats there are, before and after a test."""
    clear = lambda: (image_formats.accepted_formats.cache_clear(), image_formats.image_endings.cache_clear())
    clear()
    yield
    clear()


NAMES = "a.png a.jfif a.jpe a.JPG a.bmp a.dib a.gif a.webp a.tif a.ppm a.tga a.jp2 a.j2k a.avif a.apng"


@pytest.mark.parametrize("name", NAMES.split())
def test_formats_and_the_endings_of_their_names(name, tmp_path):
    ending = os.path.splitext(name)[1].lower()
    if ending not in image_formats.image_endings():
        pytest.skip("this Pillow was built without")
    path = tmp_path / name
    IMAGE.save(path, format=Image.registered_extensions()[ending])
    found = read(path).astype(int)
    assert np.abs(found - PIXELS).mean() < 60  # some of them lose much of such noise
    shutil.move(path, tmp_path / "other.png")
    np.testing.assert_array_equal(read(tmp_path / "other.png"), found)


def test_heic_with_its_extra(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="needs the extra `heic`")
    assert {".heic", ".heif", ".hif"} <= image_formats.image_endings()
    heif.from_pillow(IMAGE).save(tmp_path / "a.heic", quality=-1)
    expected = heif.read_heif(tmp_path / "a.heic").to_pillow()
    np.testing.assert_array_equal(read(tmp_path / "a.heic"), np.asarray(expected))


def test_heic_without_its_extra_is_no_ending_of_images(monkeypatch, formats_anew):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "HEIF" not in image_formats.accepted_formats()
    assert not image_formats.image_endings() & image_formats.HEIF_ENDINGS
    assert image_formats.HEIF_ENDINGS <= image_formats.OTHER_ENDINGS


def test_an_eps_starts_no_program_whatever_its_name(tmp_path, monkeypatch):
    started = tmp_path / "started"
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {started}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(ghostscript.parent), prepend=os.pathsep)
    path = tmp_path / "t.png"
    path.write_bytes(EPS)
    processor = ImageProcessor(8)
    with pytest.raises(JaxalignError, match=r"t\.png\) cannot be read .*: cannot identify it as AVIF, BMP"):
        processor([path])
    with Image.open(path) as opened, pytest.raises(JaxalignError, match="image 0 is an opened EPS file"):
        processor([opened])
    assert not started.exists()
    assert not {"EPS", "WMF", "MIC", "FPX", "PDF"} & set(image_formats.FORMATS)


def test_only_regular_files_are_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        server.bind("socket.png")
        for name, what in {
            "pipe": "a pipe",
            "zero": "a device",
            "folder": "a folder",
            "socket": "No such device",
            "none": "No such file",
        }.items():
            with pytest.raises(JaxalignError, match=rf"^it cannot be read: .*{what}"):
                read(tmp_path / f"{name}.png")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(tmp_path, *chunks, before=b"IDAT"):
    """IMAGE with chunks before those of the pixels, or behind them."""
    path = tmp_path / "a.png"
    IMAGE.save(path)
    content = path.read_bytes()
    at = content.index(before) - 4
    path.write_bytes(content[:at] + b"".join(chunks) + content[at:])
    return path


LONG = b"{'node': 1}," * 150_000


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    "chunks",
    [
        (chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),),
        (chunk(b"iCCP", b"profile\0\0" + zlib.compress(LONG)),),
        (chunk(b"tEXt", b"workflow\0" + LONG),) * 40,
        (chunk(b"tEXt", b"title\0red")[:-4] + b"none",),
        (chunk(b"zTXt", b"title\0\7red"),),
    ],
    ids=["compressed text", "XMP", "profile", "much text", "wrong checksum", "unknown compression"],
)
@pytest.mark.long
def test_metadata_that_pillow_does_not_take_are_skipped(chunks, before, tmp_path):
    path = png(tmp_path, *chunks, before=before)
    np.testing.assert_array_equal(read(path), PIXELS)
    np.testing.assert_array_equal(read(path.read_bytes()), PIXELS)
    assert (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY) == (1 << 20, 1 << 26)


def test_damaged_pixels_are_no_matter_of_metadata(tmp_path):
    path = png(tmp_path, chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(JaxalignError, match=r"^it cannot be read as an image: image file is truncated"):
        read(path)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_grey_of_more_than_8_bits_is_refused_as_file_and_as_image(mode, tmp_path):
    image = Image.new(mode, (9, 9), 300)
    image.save(tmp_path / "deep.tif")
    for source, name in ((image, "image 0"), (tmp_path / "deep.tif", r"image 0 \(.*deep\.tif\)")):
        with pytest.raises(JaxalignError, match=rf"^{name} is grey with more than 8 bits .*save it with 8"):
            ImageProcessor(8)([source])


def flat_png(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" * (width + 1)) * min(height, 3))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (flat_png(20_000, 10_000), r"exceeds limit of 178956970 pixels$"),
        (flat_png(1, (1 << 20) + 1), r"it is 1 x 1,048,577 pixels; expected at most 1,048,576 on a side"),
        (b"P6 9 9 254\n" + bytes(500), "it has 511 bytes of a kind of PPM that is slow to decode"),
        (b"P6\n#" + bytes(9000), "it is not decoded after 1,000 reads"),
        (bytes(20_000), "it has 20,000 bytes; expected at most 10,000"),
        (b"", "it is empty"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "cannot be read as an image: "),  # Pillow: an assertion
    ],
)
def test_what_would_take_too_long_or_too_much(content, message, monkeypatch):
    monkeypatch.setattr(image_files, "SLOW_FILE_LIMIT", 500)
    monkeypatch.setattr(image_files, "READ_LIMIT", 1000)
    monkeypatch.setattr(image_files, "FILE_LIMIT", 10_000)
    with pytest.raises(JaxalignError, match=message):
        read(content)


def test_the_most_pixels_depend_on_what_the_format_takes(tmp_path, monkeypatch):
    for name in ("a.png", "a.webp"):
        IMAGE.save(tmp_path / name)
    monkeypatch.setattr(image_files, "MEMORY_LIMIT", 20 * 600)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), PIXELS)
    with pytest.raises(JaxalignError, match="it is 30 x 20 pixels; expected at most 500 in a WEBP file"):
        read(tmp_path / "a.webp")


@pytest.mark.long
def test_large_images_wait_for_each_other(tmp_path, monkeypatch):
    """On 8 threads: 8 images of 48 MB as RGB would take 400 MB together."""
    path = tmp_path / "large.png"
    Image.new("RGB", (4000, 3000), (90, 80, 70)).save(path)
    processor = ImageProcessor(24)
    processor([path])

    def read_all():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: processor([path]), range(8)))

    monkeypatch.setattr(image_files, "_MEMORY", ByteBudget(12_000_000 * image_files._BYTES))
    assert peak(read_all) < 120_000_000


def test_a_budget_is_kept_and_serves_in_turn():
    budget, lock, used, order = ByteBudget(10), threading.Lock(), [0, 0], []

    def work(amount):
        with budget.take(amount):
            with lock:
                used[0] += amount
                used[1] = max(used)
                order.append(amount)
            time.sleep(0.002)
            with lock:
                used[0] -= amount

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, [3, 10, 1, 7, 4, 10, 2, 5, 5, 1, 9, 3] * 5))
    assert used == [0, 10]
    assert len(order) == 60


def test_what_this_machine_lacks_the_memory_for_is_not_left_out(tmp_path, clip, monkeypatch):
    from jaxalign.eval.datasets import load_split
    from jaxalign.eval.features import image_features

    IMAGE.save(tmp_path / "a.png")
    examples = load_split(f"folder:{tmp_path}", "all")

    def fail(image):
        raise MemoryError

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(JaxalignError, match=r"^a\.png: there is not enough memory to read a\.png of"):
        image_features(clip, examples, store=tmp_path / "store", unreadable="leave-out")


def test_pillow_does_not_warn(tmp_path):
    """Of a size that it still takes: a raw line of Python's on the terminal, or an error under -W error."""
    path = tmp_path / "large.tif"
    Image.new("1", (9_100, 10_000)).save(path, compression="group4")
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ImageProcessor(8)([path, path]).shape == (2, 8, 8, 3)
    assert warnings.filters == before


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(orientation, ending, tmp_path):
    path, exif = tmp_path / f"a.{ending}", Image.Exif()
    exif[0x0112] = orientation
    IMAGE.save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    with opened_image(path, "it") as image:
        turned = upright(image)
        np.testing.assert_array_equal(np.asarray(turned), expected)
        np.testing.assert_array_equal(np.asarray(upright(turned)), expected)  # not a second time


def test_damaged_exif_turns_nothing(tmp_path):
    for damage in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0none", b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1"):
        IMAGE.save(tmp_path / "a.png", exif=damage)
        with opened_image(tmp_path / "a.png", "it") as image:
            assert upright(image).size == IMAGE.size


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path):
    """Each goes over the whole image: a thousand take minutes."""
    written = io.BytesIO()
    Image.new("RGB", (64, 64)).save(written, "JPEG", progressive=True, icc_profile=b"\xff\xda" * 200)
    whole = written.getvalue()
    scans = whole[whole.index(b"\xff\xda", whole.index(b"\xff\xc2")) : -2]
    (tmp_path / "usual.jpg").write_bytes(whole)
    (tmp_path / "many.jpg").write_bytes(whole[:-2] + scans * 20 + whole[-2:])
    with opened_image(tmp_path / "usual.jpg", "it") as image:
        assert image.size == (64, 64)
    with (
        pytest.raises(JaxalignError, match=r"it has \d+ scans; expected at most 100"),
        opened_image(tmp_path / "many.jpg", "it"),
    ):
        pass
