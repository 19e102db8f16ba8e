"""Filling a feature store: what is stored, what is left out, and that no interruption changes a byte."""

import hashlib
import multiprocessing
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval.features import FeatureKey, FeatureStore, embed_images, embed_texts, make_key


class Noise:
    """Images of random sizes; some of them may be no images at all."""

    def __init__(self, count, bad=(), delay=0.0):
        self.ids = [f"noise-{i}" for i in range(count)]
        self.bad, self.delay = bad, delay

    def __getitem__(self, index):
        time.sleep(self.delay)
        if index in self.bad:
            return Path("no") / f"such-{index}.png"
        rng = np.random.default_rng(index)
        return Image.fromarray(rng.integers(0, 256, (20 + index % 7, 31, 3), np.uint8))


def image_store(root, model, count, chunk=16):
    key = make_key(model, "noise", "1.0.0", "test", "image")
    labels = {"class": np.arange(count) % 3}
    width = model.config.image.width
    return FeatureStore.open(root, key, Noise(count).ids, labels, width, chunk=chunk)


def test_stored_features_are_the_models(tmp_path, model):
    store = image_store(tmp_path, model, 21)
    done: list[int] = []
    embed_images(model, Noise(21), store, batch_size=6, threads=3, progress=done.append)
    assert sum(done) == 21
    expected = model.encode_image([Noise(21)[i] for i in range(21)], projected=False)
    np.testing.assert_allclose(store.read().values, expected, rtol=1e-5, atol=1e-5)
    assert store.read().left_out == ()
    embed_images(model, Noise(21, bad=range(21)), store, batch_size=6)  # looks at none of them again


def test_texts(tmp_path, model):
    texts = ["a photo of a cat", "a red apple", "dog", "blue"]
    key = make_key(model, "words", "1.0.0", "test", "text")
    store = FeatureStore.open(tmp_path, key, ["a", "b", "c", "d"], {}, model.config.text.width)
    embed_texts(model, texts, store, batch_size=3)
    expected = model.encode_text(texts, projected=False)
    np.testing.assert_allclose(store.read().values, expected, rtol=1e-5, atol=1e-5)


def test_an_unreadable_image_is_named_or_left_out(tmp_path, clip):
    store = image_store(tmp_path, clip, 21)
    images = Noise(21, bad=(18, 3))
    with pytest.raises(JaxalignError, match=r"noise-3: .*No such file"):
        embed_images(clip, images, store, batch_size=8)
    embed_images(clip, images, store, unreadable="leave-out", batch_size=8)
    features = store.read()
    assert features.left_out == ("noise-3", "noise-18")
    expected = clip.encode_image([Noise(21)[i] for i in range(21) if i not in (3, 18)], projected=False)
    np.testing.assert_allclose(features.values, expected, rtol=1e-5, atol=1e-5)


def test_finished_chunks_stay_when_a_later_image_fails(tmp_path, clip):
    store = image_store(tmp_path, clip, 40)
    with pytest.raises(JaxalignError, match="noise-33"):
        embed_images(clip, Noise(40, bad=(33,)), store, batch_size=8)
    assert store.missing() == [2]


def test_one_shape_whatever_is_missing(tmp_path, clip):
    """The last chunk alone is computed in the same shape, and so to the same bits, as in a whole run."""
    whole, parts = image_store(tmp_path / "a", clip, 37), image_store(tmp_path / "b", clip, 37)
    embed_images(clip, Noise(37), whole, batch_size=16)
    embed_images(clip, Noise(37), parts, batch_size=16)
    last = Path(parts.url.removeprefix("file://")) / "features" / "c" / "2" / "0"
    last.unlink()
    embed_images(clip, Noise(37), parts, batch_size=16)
    assert stored_bytes(whole) == stored_bytes(parts)


class Lazy:
    """What a device gives at once, and has computed when it is fetched."""

    def __init__(self, number, events):
        self.number, self.events = number, events

    def __array__(self, dtype=None, copy=None):
        self.events.append(f"fetch {self.number}")
        return np.zeros((4, 5), dtype)


def test_the_device_has_the_next_batch_before_one_is_fetched(tmp_path):
    """And images are decoded before they are asked for."""
    events, model = [], linear_model()
    decoded = []

    def apply_image(params, pixels, projected):
        number = sum(event.startswith("give") for event in events)
        events.append(f"give {number}")
        deadline = time.monotonic() + 60
        while number == 0 and len(decoded) < 4 * 4 and time.monotonic() < deadline:
            time.sleep(0.001)  # the device is busy with batch 0: three more are decoded meanwhile
        return Lazy(number, events)

    class Watched(Noise):
        def __getitem__(self, index):
            decoded.append((index, len(events)))
            return super().__getitem__(index)

    model.apply_image = apply_image
    embed_images(model, Watched(COUNT), linear_store(tmp_path), batch_size=4)
    assert events[:6] == ["give 0", "give 1", "fetch 0", "give 2", "fetch 1", "give 3"]
    assert events[-2:] == [f"fetch {COUNT // 4 - 2}", f"fetch {COUNT // 4 - 1}"]
    ahead = [index for index, happened in decoded if happened < 2]  # only batch 0 was given
    assert set(ahead) >= set(range(4 * 4))


def test_features_that_are_not_finite_are_named(tmp_path):
    model = linear_model()
    model.apply_image = lambda params, pixels, projected: np.where(
        np.arange(4)[:, None] == 2, np.inf, pixels.reshape(4, -1)[:, :5]
    )
    with pytest.raises(JaxalignError, match="noise-2 has features that are NaN or infinite"):
        embed_images(model, Noise(COUNT), linear_store(tmp_path), batch_size=4)


def stored_bytes(store):
    folder = Path(store.url.removeprefix("file://")) / "features"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


COUNT = 160
KILLED, KILLS = 400, 20  # images and processes of the test that kills


def linear_model():
    """A tower that compiles in a moment, for processes that do not live long."""
    processor = tiny_model("emoji-clip").image_processor
    kernel = np.random.default_rng(0).normal(size=(processor.size**2 * 3, 5)).astype(np.float32)
    return SimpleNamespace(
        params=kernel,
        image_processor=processor,
        config=SimpleNamespace(image=SimpleNamespace(image_size=processor.size)),
        apply_image=lambda params, pixels, projected: pixels.reshape(len(pixels), -1) @ params,
    )


def linear_store(root, count=COUNT):
    noise = Noise(count)
    key = FeatureKey("linear", "0", {}, "noise", "1.0.0", "test", "image", "float32")
    return FeatureStore.open(root, key, noise.ids, {}, 5, chunk=8)


def fill_and_tell(root, connection):
    """What the killed processes run: a step at a time, as far as the other end lets them."""

    def tell(done):
        connection.send(done)
        connection.recv()

    embed_images(linear_model(), Noise(KILLED), linear_store(root, KILLED), batch_size=4, progress=tell)


@pytest.mark.long
def test_killed_at_random_points_the_result_is_the_same_to_the_byte(tmp_path):
    """One process after the other is killed (SIGKILL) after 0 to 3 more batches, then one may finish.

    A killed one is granted 1 to 4 steps, the first of which is what was done before, and dies somewhere in
    the next, at most 4 batches further: 20 of them cannot finish 100 batches.
    """
    undisturbed, store = (linear_store(tmp_path / name, KILLED) for name in ("whole", "killed"))
    embed_images(linear_model(), Noise(KILLED), undisturbed, batch_size=4)
    processes = multiprocessing.get_context("forkserver")  # which imports everything once
    processes.set_forkserver_preload(["test_embed"])
    generator, left = random.Random(0), [store.chunks]
    for kill in range(KILLS + 1):
        ours, theirs = processes.Pipe()
        process = processes.Process(target=fill_and_tell, args=(tmp_path / "killed", theirs), daemon=True)
        process.start()
        theirs.close()  # so that a process that is gone is noticed here
        try:
            for _ in range(generator.randint(1, 4) if kill < KILLS else KILLED):
                assert ours.poll(120), "the process says nothing"
                ours.recv()
                ours.send(None)
        except EOFError:
            assert kill == KILLS, "the process ended by itself"
        time.sleep(generator.uniform(0, 0.005))
        if kill < KILLS:
            process.kill()
        process.join(120)
        assert process.exitcode == (-signal.SIGKILL if kill < KILLS else 0)
        left.append(len(store.missing()))
    assert stored_bytes(store) == stored_bytes(undisturbed)
    assert left == sorted(left, reverse=True), "finished chunks were lost"
    assert len(set(left)) > 5, "hardly any process was killed in the middle"
