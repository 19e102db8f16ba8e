"""Tiny models with random weights, of both shapes: offline, and built in a moment."""

import gc
import os
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from jaxalign.dual_encoder import DualEncoder
from jaxalign.eval.cli import processor
from jaxalign.inputs.tokenization import JsonVocabulary, Tokenizer
from jaxalign.models import TwoTowers, TwoTowersConfig
from jaxalign.specs import ModelSpec, find_spec


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory):
    """What commands keep without being told where goes there, not into the cache of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXALIGN_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    """Programs of one file of tests do not stay in memory for all others, which took gigabytes; what another
    file needs of them is in the folder of compiled ones."""
    yield
    jax.clear_caches()


WORDS = [
    "[PAD]",
    "[UNK]",
    "<start>",
    "<end>",
    "a",
    "photo",
    "of",
    "cat",
    "dog",
    "red",
    ",",
    "apple",
    "on",
    "blue",
]


def tiny_spec(name: str) -> ModelSpec:
    """An embedded model's facts with sizes that are all different where they may be."""
    spec = find_spec(name)
    image = replace(spec.towers.image, image_size=24, width=32, heads=2, depth=2, mlp_hidden=40)
    image = image if image.projection is None else replace(image, projection=12)
    text = replace(
        spec.towers.text,
        vocabulary=len(WORDS),
        context=10,
        width=20,
        heads=4,
        mlp_hidden=28,
        projection=image.embedding_width,
    )
    return replace(spec, name=f"tiny-{name}", towers=TwoTowersConfig(image, text, spec.towers.logit_bias))


def random_params(config: TwoTowersConfig, seed: int = 0):
    """Every parameter drawn at random, biases and norms too, so that none can be forgotten unnoticed."""
    side, context = config.image.image_size, config.text.context
    shapes = jax.eval_shape(
        TwoTowers(config).init,
        jax.random.key(0),
        jnp.zeros((1, side, side, 3)),
        jnp.zeros((1, context), jnp.int32),
    )["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        is_scale = jax.tree_util.keystr(path).endswith("['scale']")
        return jnp.asarray(is_scale + 0.3 * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def tiny_model(name: str) -> DualEncoder:
    spec = tiny_spec(name)
    text = spec.towers.text
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")
    )
    backend.normalizer = tokenizers.normalizers.Lowercase()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(WORDS[:4])
    vocabulary = JsonVocabulary(backend)
    tokenizer = Tokenizer(vocabulary, text.context, spec.start_token, text.end_token, spec.pad_token)
    return DualEncoder(spec, random_params(spec.towers), tokenizer)


MOST_COMPILED = 2**30  # bytes


def pytest_configure(config):
    """What XLA compiles is kept: for other workers, for processes that tests start, and for the next time.

    A program is found by what it computes, XLA's version and its options, so that it is the machine code that
    compiling it anew gives. A folder is for one kind of processor, whose instructions the code uses.
    `pytest --cache-clear` empties it.
    """
    gc.set_threshold(100_000, 50, 100)  # a worker holds millions of objects, of compiled programs above all
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # a worker of xdist inherits it
        folder = config.cache.mkdir("compiled") / processor()
        if folder.exists() and sum(file.stat().st_size for file in folder.iterdir()) > MOST_COMPILED:
            shutil.rmtree(folder)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_addoption(parser):
    group = parser.getgroup("fuzz", "hostile files (-m fuzz)")
    # a new one for each run, and the same for all workers of xdist, which inherit the environment
    seed = int(os.environ.setdefault("FUZZ_SEED", str(int.from_bytes(os.urandom(4), "little"))))
    group.addoption(
        "--fuzz-seed", type=int, default=seed, help="of the cases (default: $FUZZ_SEED or a new one)"
    )
    group.addoption("--fuzz-cases", type=int, default=10_000, help="of all readers together (%(default)s)")
    group.addoption("--fuzz-seconds", type=float, default=float("inf"), help="for all readers together")
    group.addoption("--fuzz-case", type=int, help="run this one alone; choose a reader with -k")
    group.addoption("--fuzz-out", default="fuzz-findings", help="folder for what is found (%(default)s)")


def pytest_terminal_summary(terminalreporter, config):
    reports = [report for found in terminalreporter.stats.values() for report in found]
    said = [value for r in reports for name, value in getattr(r, "user_properties", ()) if name == "fuzz"]
    for line in [f"fuzz: --fuzz-seed {config.option.fuzz_seed}", *dict.fromkeys(said)] if said else ():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def emoji_data_dir(tmp_path_factory) -> Path:
    """Both embedded data sets, prepared once for all tests; to be read, not changed."""
    from jaxalign.eval.datasets import prepare

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one folder for all workers, of which one prepares
        folder = folder.parent
    folder = folder / "tfds"
    for name in ("emoji", "emoji-scenes"):
        prepare(name, folder)
    return folder


# Dtypes are never promoted implicitly here; elsewhere NumPy's arrays meet JAX's as users have them.
STRICT = {
    "test_bands",
    "test_linearize",
    "test_models",
    "test_projectors",
    "test_recovery",
    "test_retrieval",
    "test_revisited",
    "test_select_band",
    "test_spectra",
    "test_subspace",
}


@pytest.fixture(autouse=True, scope="module")
def promotion_of_dtypes(request):
    with jax.numpy_dtype_promotion("strict" if request.path.stem in STRICT else "standard"):
        yield


@pytest.fixture(scope="session", params=["emoji-clip", pytest.param("emoji-siglip", marks=pytest.mark.long)])
def model(request) -> DualEncoder:
    """Both shapes, one after the other; what is peculiar to the second is tested with `siglip`, always."""
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def clip() -> DualEncoder:
    return tiny_model("emoji-clip")


@pytest.fixture(scope="session")
def siglip() -> DualEncoder:
    return tiny_model("emoji-siglip")
