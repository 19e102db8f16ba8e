"""A printed table from stored features: IsoCLIP's table 1 for ViT-B/32, 13 data sets at their real sizes.

Image-Image, OTI and IsoCLIP; features and inverted queries are synthetic, of the true shapes, and lie in the
store. Both promises are about a process of its own that starts with that store: five minutes and 4 GiB.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.eval.datasets import DATASETS, DatasetRecord, Examples
from jaxalign.eval.features import FeatureStore, make_key
from jaxalign.eval.paper import TABLES, Cell, Missing, Places, Selection, Session, reproduce
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.models import TwoTowersConfig
from jaxalign.specs import find_spec
from jaxalign.weights.tensors import expected_shapes, unflatten

from .measure import Claim
from .settings import pick

TABLE, BACKBONE, MODEL = "isoclip-table1", "ViT-B/32", "clip-vit-base-patch32"
SECONDS, BYTES = 300, 4 << 30
_ALL = {
    "caltech101": 100,
    "cub": 200,
    "roxford5k": 11,
    "rparis6k": 11,
    "cars": 196,
    "pets": 37,
    "flowers102": 102,
    "aircraft": 100,
    "dtd": 47,
    "eurosat": 10,
    "food101": 101,
    "sun397": 397,
    "ucf101": 101,
}
CLASSES = pick(_ALL, {"dtd": 47})
STEPS = 150  # of OTI: as many losses are stored with each query


def claims() -> Iterator[Claim]:
    with tempfile.TemporaryDirectory() as folder:
        _run("fill_store", folder)
        words = _run("reproduce_table", folder).split()
    taken, busy, peak, cells = *map(float, words[:3]), int(words[3])
    what = f"reproduce {TABLE}, {BACKBONE}: {cells} cells of {len(CLASSES)} data sets, features stored"
    yield Claim(f"{what} ({busy:.0f} s of processor time)", taken, 0.0, "promised", SECONDS, at_least=1)
    yield Claim(f"{what}, peak memory", peak, 0.0, "promised", BYTES, at_least=1, quantity="bytes")


def _run(function: str, folder: str) -> str:
    """What a function of this module prints in a process of its own."""
    script = f"from benchmarks.reproduce import {function}; {function}({folder!r})"
    found = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    return found.stdout


class Synthetic(Workspace):
    """Data sets without images: ids and labels of the true numbers."""

    def load_split(self, dataset: str | DatasetRecord, split: str) -> Examples:
        return examples_of(dataset if isinstance(dataset, str) else dataset.name, split)


class RandomModel(Session):
    """One model of random weights, as large as the real one; nothing is missing but R1M."""

    known: DualEncoder | None = None

    def missing_for(self, cell: Cell) -> list[Missing]:
        return [Missing("R1M", "")] if self.takes_distractors(cell) else []

    def model(self, cell: Cell) -> DualEncoder:
        if self.known is None:
            self.known = random_model()
        return self.known


def reproduce_table(folder: str) -> None:
    """Reproduce the table; print its seconds, the processors' seconds, peak memory in bytes, its cells."""
    start = time.perf_counter()
    workspace = Synthetic(Path(folder) / "runs", Path(folder) / "store")
    session = RandomModel(workspace, Places())
    found = reproduce(
        TABLES[TABLE], session, Selection(backbones=(BACKBONE,), datasets=pick((), tuple(CLASSES)))
    )
    taken = time.perf_counter() - start
    if found.count("measured") < pick(len(found.outcomes), 1):  # some data sets alone have no mean
        raise SystemExit(f"{found.failed[0].cell.name}: {found.failed[0].reason}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
    print(taken, time.process_time(), peak, len(found.outcomes))


def fill_store(folder: str) -> None:
    """Write the features of every split, and OTI's inversions of the queries."""
    model, root = random_model(), Path(folder) / "store"
    for dataset in CLASSES:
        record = DATASETS[dataset]
        query = "query-uncropped" if record.query == "query" else record.query
        for split in dict.fromkeys((query, record.gallery)):
            examples = examples_of(dataset, split)
            key = make_key(model, dataset, examples.version, split, "image")
            write(root, key, examples, dict(examples.labels), model.config.image.width)
        examples = examples_of(dataset, query)
        options = {"steps": STEPS, "seed": 0, "curve": [STEPS]}
        key = make_key(model, dataset, examples.version, query, "text", stage="oti", options=options)
        write(root, key, examples, {}, (model.config.image.projection or 0) + STEPS, chunk=128)


def write(
    root: Path, key: Any, examples: Examples, labels: dict[str, np.ndarray], width: int, chunk: int = 1024
):
    """Features around a centre of each class."""
    store = FeatureStore.open(root, key, examples.ids, labels, width, chunk=chunk)
    classes = CLASSES[examples.dataset]
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, width), np.float32)
    own = examples.labels.get("label", np.arange(len(examples)) % classes)
    for chunk in range(store.chunks):
        rows = np.asarray(store.rows_of(chunk))
        store.write(chunk, centres[own[rows]] + rng.standard_normal((len(rows), width), np.float32))


def examples_of(dataset: str, split: str) -> Examples:
    """A split of the true size."""
    record, classes = DATASETS[dataset], CLASSES[dataset]
    count = sum(record.splits[part] for part in split.removesuffix("-uncropped").split("+"))
    labels = np.arange(count, dtype=np.int32) % classes
    landmarks = not record.tasks
    return Examples(
        dataset=dataset,
        split=split,
        version=record.version,
        images=(),
        labels={} if landmarks else {"label": labels},
        label_names={} if landmarks else {"label": tuple(map(str, range(classes)))},
        captions=(),
        file_names=tuple(f"{split}/{i}.jpg" for i in range(count)),
        ground_truth=ground_truth(record.splits["gallery"], count, classes) if split[:5] == "query" else (),
    )


def ground_truth(gallery: int, queries: int, classes: int) -> tuple[dict[str, list[int]], ...]:
    """About as many positives and junk images as ROxford has."""
    of_class: Sequence[np.ndarray] = [
        np.flatnonzero(np.arange(gallery) % classes == k) for k in range(classes)
    ]
    lists = [of_class[i % classes] for i in range(queries)]
    return tuple(
        {"easy": own[:60].tolist(), "hard": own[60:120].tolist(), "junk": own[120:180].tolist()}
        for own in lists
    )


def random_model() -> DualEncoder:
    """Random weights in the shapes of the real ones; for a quick run, of one block in each tower."""
    spec = find_spec(MODEL)
    known: Any = spec.towers
    shallow = TwoTowersConfig(replace(known.image, depth=1), replace(known.text, depth=1))
    spec = pick(spec, replace(spec, towers=shallow))
    rng = np.random.default_rng(0)
    params = {
        path: jnp.asarray(0.02 * rng.standard_normal(shape, np.float32))
        for path, shape in expected_shapes(spec.towers).items()
    }
    return DualEncoder(spec, unflatten(params)).with_layout("reference")
