"""Where data sets, features and runs are, and how progress is shown."""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets import DatasetRecord, Examples, find_dataset, load_split
from jaxalign.eval.distributed import agree, as_first, is_first
from jaxalign.eval.features import key as feature_key
from jaxalign.eval.features.embed import BATCH, THREADS, Unreadable
from jaxalign.eval.features.obtain import image_features, text_features
from jaxalign.eval.features.store import Features
from jaxalign.eval.protocols import Result
from jaxalign.eval.runs import Run, find_run, write_run
from jaxalign.eval.stages import Stages
from jaxalign.sharding import data_mesh


@dataclasses.dataclass(frozen=True, eq=False)
class Workspace:
    """What every measurement stands on.

    Attributes:
      out: folder of the runs; None to keep none and find none.
      store: folder or URL of the feature stores; `default_store()` by default.
      data_dir: folder of prepared data sets; TFDS's by default.
      batch_size: pictures that pass through the tower together on each device; by default what suits a
        CPU.
      unreadable: whether a picture that cannot be read ends a measurement, or is left out and named in its
        run.
      threads: that read and decode pictures ahead of the tower.
      stages: shows progress.
      mesh: devices that galleries and test features are divided over; by default all of all processes.
      said: what has been told about folders of images, each once.
    """

    out: Path | None = None
    store: str | os.PathLike | None = None
    data_dir: str | os.PathLike | None = None
    batch_size: int = BATCH
    unreadable: Unreadable = "fail"
    threads: int = THREADS
    stages: Stages = dataclasses.field(default_factory=Stages)
    mesh: Mesh | None = dataclasses.field(default_factory=data_mesh)
    said: set[str] = dataclasses.field(default_factory=set)

    def load_model(
        self,
        name_or_path: str | os.PathLike,
        layout: str = "paper",
        *,
        spec: str | None = None,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> DualEncoder:
        """The model, with the projectors of `layout`; the others as for `jaxalign.load`."""
        with self.stages.timed("load"):
            model = ja.load(name_or_path, spec=spec, name=name, dtype=dtype)
        return model if layout == "paper" else model.with_layout(layout)

    def find_dataset(self, name: str) -> DatasetRecord:
        """The record of a data set; of a folder of images it is told what its subfolders are taken for."""
        record = find_dataset(name)
        if record.reading and record.reading not in self.said:
            self.said.add(record.reading)
            self.stages.note(record.reading)
        return record

    def load_split(self, dataset: str, split: str) -> Examples:
        """A split of a data set, which is prepared first where it was not."""
        with self.stages.stage("read", f"reading {dataset}/{split}", announced=False):
            return load_split(dataset, split, self.data_dir)

    @property
    def picture_settings(self) -> dict[str, Any]:
        """What a run's settings say of pictures that cannot be read: nothing, where they end it."""
        return {} if self.unreadable == "fail" else {"unreadable": self.unreadable}

    def images(self, model: DualEncoder, examples: Examples) -> Features:
        """Pre-projection features of a split's pictures, under a progress bar."""
        title = f"{model.name}: {examples.dataset}/{examples.split}, {len(examples)} pictures"
        with self.stages.stage("embed", title, len(examples)) as advance:
            return image_features(
                model,
                examples,
                store=self.store,
                unreadable=self.unreadable,
                progress=advance,
                batch_size=self.batch_size,
                threads=self.threads,
            )

    def texts(self, model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """Pre-projection features `[n, d_text]` of texts, under a progress bar; `name` says what they are."""
        title = f"{model.name}: {name}, {len(texts)} texts"
        with self.stages.stage("embed", title, len(texts)) as advance:
            found = text_features(
                model,
                name,
                ids,
                texts,
                store=self.store,
                progress=advance,
                batch_size=self.batch_size,
            )
        return found.values

    def measure(self, protocol: str, settings: Mapping[str, Any], compute: Callable[[], Result]) -> Run:
        """The run of these settings: found, or computed and written, by the first of several processes."""
        agree(f"the measurement of {protocol}", lambda: settings)
        found = None if self.out is None else find_run(self.out, protocol, settings)
        if as_first(found is not None):
            if found is None:
                raise JaxalignError(f"{self.out} lacks runs here; expected a folder that all processes share")
            return found
        start = time.perf_counter()
        result = compute()
        seconds = time.perf_counter() - start
        run = Run(
            protocol,
            settings,
            result.metrics,
            result.arrays,
            round(seconds, 3),
            left_out=result.left_out,
            notes=result.notes,
        )
        if self.out is not None and is_first():
            write_run(self.out, run)
        return run


def model_settings(model: DualEncoder) -> dict[str, Any]:
    """What of a model determines a result: weights, all facts, tokenizer, and how it computes."""
    found = {
        "model": model.name,
        "source": model.spec.source,
        "weights": feature_key.weights_digest(model.params)[:16],
        "spec": feature_key.spec_digest(model),
        "layout": model.spec.layout,
        "dtype": np.dtype(model.dtype).name,
    }
    if model.tokenizer is not None:
        found["tokenizer"] = feature_key.tokenizer_digest(model.tokenizer)
    precision = feature_key.product_precision()
    return found if precision == "default" else found | {"precision": precision}


def digest_texts(texts: Sequence[str]) -> str:
    """Their number, and sixteen hexadecimal digits that stand for them."""
    text = json.dumps(list(texts), ensure_ascii=True)
    return f"{len(texts)} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def choose_task(examples: Examples, task: str) -> str:
    """`task`, or the first labelling of the data set where it is empty; raises for one that it lacks, and for
    one that tells nothing apart."""
    if not examples.labels:
        raise JaxalignError(
            f"{examples.dataset} has no labels; expected a data set with classes, see `jaxalign datasets`"
        )
    if task and task not in examples.labels:
        raise unknown_name(f"labelling of {examples.dataset}", task, examples.labels)
    task = task or next(iter(examples.labels))
    if len(names := examples.label_names[task]) == 1:
        raise JaxalignError(
            f"{examples.dataset} has one class alone, {names[0]!r}, in which every picture is right; expected"
            " at least two: of a folder, give the one whose subfolders are the classes or splits"
        )
    return task
