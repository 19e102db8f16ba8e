"""Images that are damaged or unusual: read as the originals do, named, or left out and counted."""

import json
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.datasets import load_split
from jaxalign.eval.features import image_features


def noise(seed, mode="RGB"):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).convert(mode)


def write_readable(folder):
    """Unusual images that the originals read, and what they are in RGB."""
    noise(0).save(folder / "plain.png")
    noise(1, "CMYK").save(folder / "cmyk.jpg", quality=95)
    frames = [noise(2, "P"), noise(3, "P"), noise(4, "P")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    noise(5, "LA").save(folder / "grey_alpha.png")
    noise(6, "1").save(folder / "one_bit.tiff")
    deep = np.random.default_rng(7).integers(0, 65536, (30, 40, 3)).astype(">u2")
    (folder / "rgb_16_bit.ppm").write_bytes(b"P6 40 30 65535\n" + deep.tobytes())


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_unreadable(folder):
    """One of each kind, with a word of the reason that must be given."""
    jpeg, png = folder / "truncated.jpg", folder / "corrupt.png"
    noise(8).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:-400])
    noise(9).save(png)
    damaged = bytearray(png.read_bytes())
    damaged[60:90] = bytes(30)
    png.write_bytes(damaged)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no image at all")
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    oversized = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (folder / "oversized.png").write_bytes(oversized)
    grey = np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40)
    Image.fromarray(grey).save(folder / "grey_16_bit.png")
    return {
        "corrupt.png": "broken",
        "empty.jpg": "it is empty",
        "grey_16_bit.png": "more than 8 bits",
        "oversized.png": "exceeds limit",
        "text.jpg": "cannot identify",
        "truncated.jpg": "truncated",
    }


def test_unusual_images_are_embedded_as_the_model_reads_them(tmp_path, clip):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_readable(photos)
    features = image_features(clip, load_split(f"folder:{photos}", "all"), store=tmp_path / "store")
    assert len(features.ids) == 6
    assert features.left_out == ()
    expected = clip.encode_image([photos / name for name in features.ids], projected=False)
    np.testing.assert_allclose(features.values, expected, rtol=1e-5, atol=1e-5)
    noise(2, "P").save(tmp_path / "first_frame.gif")
    still = clip.encode_image([tmp_path / "first_frame.gif"], projected=False)
    row = features.ids.index("animated.gif")
    np.testing.assert_allclose(features.values[row], still[0], rtol=1e-5, atol=1e-5)


def test_each_kind_of_unreadable_image_is_fatal_by_default(tmp_path, clip):
    everything = tmp_path / "all"
    everything.mkdir()
    for name, reason in write_unreadable(everything).items():
        alone = tmp_path / name.partition(".")[0]
        alone.mkdir()
        (everything / name).rename(alone / name)
        with pytest.raises(JaxalignError) as caught:
            image_features(clip, load_split(f"folder:{alone}", "all"), store=tmp_path / "store")
        said = str(caught.value)
        assert said.startswith(name), said
        assert reason in said, said
        assert "--unreadable leave-out" in said
        assert "\n" not in said


def test_left_out_images_are_counted_in_the_result_of_the_command(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_readable(photos)
    bad = sorted(write_unreadable(photos))
    options = ["--dataset", f"folder:{photos}", "--store", str(tmp_path / "store")]
    assert cli.main(["embed", *options]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("jaxalign: error: corrupt.png")
    results = tmp_path / "results.json"
    allowed = [*options, "--unreadable", "leave-out", "--json", str(results)]
    for computed in (12, 0):
        assert cli.main(["embed", *allowed]) == 0
        found = json.loads(results.read_text())
        assert (found["images"], found["computed"], sorted(found["left_out"])) == (12, computed, bad)
        assert f"6 left out, unreadable: {', '.join(bad)}" in capsys.readouterr().out
    assert cli.main(["embed", *options]) == 1, "a stored gap must not pass where none is allowed"
    assert "corrupt.png" in capsys.readouterr().err


def test_a_image_that_can_be_read_again_fills_its_gap(tmp_path, clip):
    """A network folder may fail for a moment."""

    class Flaky:
        ids = ("a", "b")
        fails = True

        def __getitem__(self, index):
            if index == 1 and self.fails:
                raise JaxalignError("b cannot be read: Input/output error")
            return noise(index)

    from jaxalign.eval.features import FeatureStore, embed_images, make_key

    flaky = Flaky()
    key = make_key(clip, "flaky", "1.0.0", "test", "image")
    store = FeatureStore.open(tmp_path, key, flaky.ids, {}, clip.config.image.width)
    embed_images(clip, flaky, store, unreadable="leave-out")
    assert store.read().left_out == ("b",)
    flaky.fails = False
    embed_images(clip, flaky, store, unreadable="leave-out")
    assert store.read().left_out == ("b",)
    embed_images(clip, flaky, store)
    assert store.read().left_out == ()


def test_no_readable_image_at_all_is_an_error(tmp_path, clip):
    (tmp_path / "a.jpg").write_bytes(b"")
    examples = load_split(f"folder:{tmp_path}", "all")
    with pytest.raises(JaxalignError, match=r"none of the 1 images .* a\.jpg for one"):
        image_features(clip, examples, store=tmp_path / "store", unreadable="leave-out")


def test_a_large_image_is_read_without_a_warning(tmp_path, clip):
    Image.new("1", (10_000, 9_100)).save(tmp_path / "panorama.png")
    examples = load_split(f"folder:{tmp_path}", "all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_features(clip, examples, store=tmp_path / "store").ids == ("panorama.png",)
