"""Embedding JPEGs into a feature store against decoding alone and the tower alone, and its memory."""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxalign.dual_encoder import DualEncoder
from jaxalign.eval.datasets.images import Images
from jaxalign.eval.features import FeatureStore, embed_images, make_key
from jaxalign.eval.features.embed import BATCH, THREADS
from jaxalign.specs import find_spec
from jaxalign.weights.tensors import expected_shapes, unflatten

from .measure import Claim
from .settings import pick

MODEL, SIZE = pick("clip-vit-base-patch32", "emoji-clip"), (500, 375)
BATCHES, REPEATS = pick((3, 5), (1, 1))
FLAT = pick(512, 16)  # images; four times as many must take no more memory


def claims() -> Iterator[Claim]:
    yield throughput_claim()
    yield memory_claim()


def throughput_claim() -> Claim:
    """What decoding and tower, which share the cores, allow together is the sum of their times alone."""
    model, images = random_model(MODEL), jpegs(BATCH * BATCHES)
    pixels = np.stack([model.image_processor([images[i]])[0] for i in range(BATCH)])
    tower = lambda: [model.apply_image(model.params, pixels, projected=False) for _ in range(BATCHES)]

    def decode() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda i: model.image_processor([images[i]]), range(len(images))))

    def embed() -> float:
        """Without opening the store, which is done once."""
        with tempfile.TemporaryDirectory() as root:
            key = make_key(model, "jpegs", "1.0.0", "test", "image")
            store = FeatureStore.open(root, key, images.ids, {}, model.config.image.width)
            return timed(lambda: embed_images(model, images, store))

    first = timed(tower)  # compiles
    rounds = [(timed(decode), timed(tower), embed()) for _ in range(REPEATS)]
    # Each round by itself: what else runs on the machine changes from one to the next.
    alone, together = sorted(((d + t, e) for d, t, e in rounds), key=lambda r: r[0] / r[1])[REPEATS // 2]
    decoding, tower_time, _ = np.median(rounds, axis=0) / len(images)
    return Claim(
        f"embed, {MODEL} from JPEGs of {SIZE[0]} x {SIZE[1]}, {BATCH} at a time",
        together / len(images),
        max(first - tower_time * len(images), 0.0),
        f"decoding ({1e3 * decoding:.1f} ms) and tower ({1e3 * tower_time:.1f} ms), each alone",
        alone / len(images),
        0.85,
        unit="image",
    )


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def random_model(name: str) -> DualEncoder:
    """A known model's image tower, with random weights."""
    spec = find_spec(name)
    rng = np.random.default_rng(0)
    params = {
        path: jnp.asarray(0.02 * rng.standard_normal(shape, np.float32))
        for path, shape in expected_shapes(spec.towers).items()
        if path.startswith("img/")
    }
    return DualEncoder(spec, unflatten(params))


def jpegs(count: int) -> Images:
    """Soft noise, which compresses to about the 50 kB of a photograph of this size."""
    files = []
    for seed in range(min(count, BATCH)):
        small = np.random.default_rng(seed).integers(0, 256, (SIZE[1] // 4, SIZE[0] // 4, 3), np.uint8)
        content = io.BytesIO()
        Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC).save(content, "JPEG", quality=85)
        files.append(content.getvalue())
    return Images(lambda row: files[row % len(files)], [f"{i}.jpg" for i in range(count)], "jpegs")


def memory_claim() -> Claim:
    """Peak of a process that embeds four times as many images, against one that embeds some."""
    peaks = [float(peak_memory(count)) for count in (FLAT, 4 * FLAT)]
    return Claim(
        f"embed, memory of {4 * FLAT} images",
        peaks[1],
        0.0,
        f"of {FLAT} images",
        peaks[0],
        0.95,
        quantity="bytes",
    )


def peak_memory(count: int) -> int:
    """Bytes that a process of its own takes at most to embed `count` images with `emoji-clip`."""
    script = f"from benchmarks.encoding import embed_some; embed_some({count})"
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    return int(run.stdout)


def embed_some(count: int) -> None:
    """Embed images and print the most memory that it took, in bytes."""
    import resource

    import jaxalign as ja

    model, images = ja.load("emoji-clip"), jpegs(count)
    with tempfile.TemporaryDirectory() as root:
        key = make_key(model, "jpegs", "1.0.0", "test", "image")
        store = FeatureStore.open(root, key, images.ids, {}, model.config.image.width)
        embed_images(model, images, store)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # KiB on Linux
