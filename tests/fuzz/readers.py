"""What reads each kind of file, in the worker: each takes a folder, and raises what the reader raises."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError

_MANY = 1 << 22  # elements: larger tensors are not read, as no model of the size of the file has them
_TEXTS = [
    "a photo of a cat",
    "",
    "ab abc x",
    "a" * 3000 + "!",
    "日本 über 🐈 don't",
    "\0\x1b[0m\n",
    "[UNK] [PAD]",
    "ab " * 999,
]


class WrongResultError(Exception):
    """A file was read, but into what no valid file has."""


def read_tensors(folder: Path) -> None:
    """Every tensor of the one file, as a whole."""
    from jaxalign.conversion.checkpoint_files import read_tensors

    (file,) = folder.iterdir()
    content = file.read_bytes()
    for tensor in read_tensors(file).values():
        if math.prod(tensor.shape) <= _MANY:
            values = tensor.read().reshape(-1)
            if file.suffix != ".npz":  # which may be compressed
                _check_content(values, content)


def _check_content(values: np.ndarray, content: bytes) -> None:
    """What is read beyond a buffer is memory of the process, and unlikely to be in the file."""
    for value in (*values[:64], *values[-64:]):
        if value.tobytes() not in content:
            raise WrongResultError("numbers that are not in the file")


def load_model(folder: Path) -> None:
    """A model: its facts are numbers, and an image is preprocessed into numbers."""
    model = ja.load(folder)
    _check_numbers(asdict(model.spec))
    pixels = model.image_processor([np.full((50, 60, 3), 128, np.uint8)])
    if not np.isfinite(pixels).all():
        raise WrongResultError("pixels that are NaN or infinite")
    if model.tokenizer is not None:
        _check_tokens(model.tokenizer(_TEXTS), model.spec)


def _check_numbers(facts: Any, where: str = "spec") -> None:
    if isinstance(facts, float) and not math.isfinite(facts):
        raise WrongResultError(f"{where} is {facts}")
    for name, value in facts.items() if isinstance(facts, dict) else ():
        _check_numbers(value, f"{where}.{name}")
    for value in facts if isinstance(facts, list | tuple) else ():
        _check_numbers(value, where)


def _check_tokens(tokens: np.ndarray, spec: Any) -> None:
    size = spec.towers.text.vocabulary
    if tokens.min() < 0 or tokens.max() >= size:
        raise WrongResultError("ids beyond the embedding table")


def load_tokenizer(vocabulary: str, folder: Path) -> None:
    """A vocabulary beside a model with a text tower, and what it makes of texts."""
    from conftest import tiny_spec

    from jaxalign.inputs.tokenization import load_tokenizer

    spec = tiny_spec("emoji-siglip")
    assert spec.towers.text is not None
    size, end = (14, spec.towers.text.end_token) if vocabulary == "tokenizer.json" else (320, 1)
    text = replace(spec.towers.text, vocabulary=size, end_token=end)
    spec = replace(spec, vocabulary=vocabulary, towers=replace(spec.towers, text=text))
    tokenizer = load_tokenizer(spec, folder)
    if tokenizer is not None:
        _check_tokens(tokenizer(_TEXTS), spec)


def read_ground_truth(folder: Path) -> None:
    """As a data set, and as the pickle that it is, whose arrays cannot be larger than the file."""
    from jaxalign.eval.datasets.readers.revisited import read_plain_pickle

    file = folder / "roxford5k" / "gnd_roxford5k.pkl"
    size = file.stat().st_size
    arrays = lambda: _check_arrays(read_plain_pickle(file), size)
    _try_all((arrays, lambda: _read_content("roxford5k", folder)))


def _check_arrays(content: Any, size: int) -> None:
    """Those in lists and mappings, each of which is looked at once."""
    waiting, seen = [content], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, np.ndarray) and node.nbytes > size:
            raise WrongResultError("arrays of more bytes than the file has")
        if isinstance(node, dict | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            waiting += node.values() if isinstance(node, dict) else node


def _read_content(dataset: str, folder: Path) -> None:
    from jaxalign.eval.datasets.items import read_content

    from .measured_files import record_of

    read_content(record_of(dataset), folder)


def read_image(folder: Path) -> None:
    """Through `encode_image`, in every way to preprocess, and as an example of a folder."""
    from jaxalign.eval.datasets import load_split
    from jaxalign.inputs.image_processing import ImageProcessor, Pipeline

    (path,) = (path for path in folder.iterdir() if path.is_file())
    model = _image_model()
    one = lambda image: _check_features(model.encode_image([image]))
    squashed = ("transformers_float", "big_vision")  # these know nothing else
    ways = [
        ImageProcessor(224, "squash" if pipeline in squashed else "shortest", "bilinear", pipeline=pipeline)
        for pipeline in get_args(Pipeline)
    ]
    in_folder = lambda: one(load_split(f"folder:{folder}", "all").images[0])
    _try_all((lambda: one(path), in_folder, *(partial(way, [path]) for way in ways)))


def _check_features(features: Any) -> None:
    if not np.isfinite(np.asarray(features)).all():
        raise WrongResultError("features that are NaN or infinite")


@cache
def _image_model() -> ja.DualEncoder:
    """Its images are as large as those of real models."""
    from conftest import random_params, tiny_model, tiny_spec

    spec = tiny_spec("emoji-clip")
    towers = replace(spec.towers, image=replace(spec.towers.image, image_size=224, patch_size=56))
    spec = replace(spec, towers=towers, resize="shortest", inversion_patches=1)
    return replace(tiny_model("emoji-clip"), spec=spec, params=random_params(towers))


def read_runs(folder: Path) -> None:
    """All runs and tables, and the report of them; then the run of the same settings."""
    from jaxalign.eval.paper.output import read_tables
    from jaxalign.eval.report import build_report
    from jaxalign.eval.tasks.runs import find_run, read_runs

    runs = read_runs(folder)
    build_report(runs, read_tables(folder))
    for run in runs:
        find_run(folder, run.protocol, run.settings)


def read_store(folder: Path) -> None:
    """The features, and what is missing of them; then as a run that goes on does."""
    from jaxalign.eval.features import FeatureStore

    from .measured_files import IDS, KEY

    def read() -> None:
        store = FeatureStore.find(folder, KEY)
        if store is not None:
            store.missing()
            store.read()

    labels = {"emoji": np.arange(10) % 3}
    _try_all((read, lambda: FeatureStore.open(folder, KEY, IDS, labels, 5, chunk=4)))


def _try_all(calls: Iterable[Callable[[], Any]]) -> None:
    """Each of `calls`, whichever of them refuse; raises the first refusal."""
    refusals = []
    for call in calls:
        try:
            call()
        except JaxalignError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def misbehave(folder: Path) -> None:
    """What the file `how` says: so that the tests of the harness need no fault in a reader."""
    how = (folder / "how").read_text()
    if match := re.fullmatch(r"raise (.*)", how, re.DOTALL):
        raise JaxalignError(match[1]) if "\n" not in how else _TwoLinesError(match[1])
    _MISBEHAVIOUR[how]()


class _TwoLinesError(JaxalignError):
    def __str__(self) -> str:
        return "two\nlines"


def _crash() -> None:
    import ctypes

    ctypes.string_at(0)


def _hang() -> None:
    while True:
        pass


def _execute() -> None:
    import os

    os.system("true")


def _create() -> None:
    Path("executed").touch()


def _fill_memory() -> None:
    np.ones(1 << 40)


def _fill_memory_and_refuse() -> None:
    try:
        _fill_memory()
    except MemoryError as error:
        raise JaxalignError("too large") from error


_MISBEHAVIOUR: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "divide": lambda: 1 // 0,
    "crash": _crash,
    "hang": _hang,
    "execute": _execute,
    "create": _create,
    "memory": _fill_memory,
    "refused memory": _fill_memory_and_refuse,
}
READERS: dict[str, Callable[[Path], None]] = {
    "tensors": read_tensors,
    "model": load_model,
    "tokenizer-json": partial(load_tokenizer, "tokenizer.json"),
    "sentencepiece": partial(load_tokenizer, "sentencepiece"),
    "ground truth": read_ground_truth,
    "image": read_image,
    "runs": read_runs,
    "store": read_store,
    "misbehave": misbehave,
    **{
        f"list {name}": partial(_read_content, name)
        for name in ("eurosat", "coco", "nocaps", "bdd100k", "inat2021-mini")
    },
}
