"""Where data sets, features and runs are, and how progress is shown."""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DatasetRecord, Examples, find_dataset, load_split
from jaxalign.eval.datasets.data_reading import DataReading
from jaxalign.eval.features import FeatureStore, Gathered, image_store, text_store
from jaxalign.eval.features import key as feature_key
from jaxalign.eval.features.embed import BATCH, THREADS, Computing, Unreadable
from jaxalign.eval.processes import agree, as_first, is_first
from jaxalign.eval.tasks.given import GivenFeatures
from jaxalign.eval.tasks.projecting import check_needs, text_embeddings
from jaxalign.eval.tasks.runs import Result, Run, find_run, write_run
from jaxalign.eval.terminal import Stages
from jaxalign.sharding import data_mesh


@dataclasses.dataclass(frozen=True, eq=False)
class Readable:
    """A split without the images that were left out, n of them.

    Attributes:
      examples: those that can be read.
      pre: float32 `[n, d_image]`, their pre-projection features.
      rows: int `[n]`, ascending: their positions in the whole split.
      left_out: ids of the others; there are some only where the workspace allows that.
    """

    examples: Examples
    pre: np.ndarray
    rows: np.ndarray
    left_out: tuple[str, ...]

    @property
    def origin(self) -> str:
        """Data set and split, for people."""
        return self.examples.origin


@dataclasses.dataclass(frozen=True, eq=False)
class Workspace:
    """What every measurement stands on.

    Attributes:
      out: folder of the runs; None to keep none and find none.
      store: folder or URL of the feature stores; `default_store()` by default.
      data_dir: folder of prepared data sets; TFDS's by default.
      batch_size: images that pass through the tower together on each device; by default what suits a
        CPU.
      threads: that read, decode and resize images.
      unreadable: whether an image that cannot be read ends a measurement, or is left out and named in its
        run.
      stages: shows progress.
      mesh: devices that galleries and test features are divided over; by default all of all processes.
      said: what has been told about folders of images, each once.
      reading: how data sets `features:PATH` are read.
      records: by name the data sets that were looked up, where a folder of images is to stay what it was when
        it was first read, as in one command; None to read it again whenever it is asked for.
    """

    out: Path | None = None
    store: str | os.PathLike[str] | None = None
    data_dir: str | os.PathLike[str] | None = None
    batch_size: int = BATCH
    threads: int = THREADS
    unreadable: Unreadable = "fail"
    stages: Stages = dataclasses.field(default_factory=Stages)
    mesh: Mesh | None = dataclasses.field(default_factory=data_mesh)
    said: set[str] = dataclasses.field(default_factory=set)
    reading: DataReading | None = None
    records: dict[str, DatasetRecord] | None = None

    def load_model(
        self,
        name_or_path: str | os.PathLike[str],
        layout: str = "paper",
        *,
        dtype: Any = np.float32,
        spec: str | None = None,
        name: str | None = None,
    ) -> DualEncoder:
        """The model, with the projectors of `layout`; `dtype`, `spec` and `name` as for `jaxalign.load`."""
        with self.stages.timed("load"):
            model = ja.load(name_or_path, dtype=dtype, spec=spec, name=name)
        return model if layout == "paper" else model.with_layout(layout)

    def find_dataset(self, name: str) -> DatasetRecord:
        """The record of a data set; of a folder of images it is told what its subfolders are taken for."""
        record = (self.records or {}).get(name) or find_dataset(name, self.reading, self.data_dir)
        if self.records is not None:
            self.records[name] = record
        if record.reading and record.reading not in self.said:
            self.said.add(record.reading)
            self.stages.note(record.reading)
        return record

    def load_split(self, dataset: str | DatasetRecord, split: str) -> Examples:
        """A split of a data set, which is prepared first where it was not."""
        record = self.find_dataset(dataset) if isinstance(dataset, str) else dataset
        with self.stages.stage("read", f"reading {record.name}/{split}", announced=False):
            return load_split(record, split, self.data_dir)

    def feature_width(self, record: DatasetRecord) -> int:
        """Of the features of a data set that consists of some."""
        features = self.load_split(record, record.query).features
        assert features is not None
        return features.shape[1]

    @property
    def image_settings(self) -> dict[str, Any]:
        """What a run's settings say of images that cannot be read: nothing, where they end it."""
        return {} if self.unreadable == "fail" else {"unreadable": self.unreadable}

    def image_store(self, model: DualEncoder, examples: Examples) -> FeatureStore | Gathered:
        """Features of a split's images, all computed; raises JaxalignError as `features.image_store`."""
        check_needs(model, examples.dataset, ("towers",))
        title = f"{model.name}: {examples.origin}, {len(examples)} images"
        with self.computing(title, len(examples)) as computing:
            return image_store(model, examples, **computing)

    def text_store(
        self, model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str]
    ) -> FeatureStore:
        """The same of texts; `name` says what they are."""
        with self.computing(f"{model.name}: {name}, {len(texts)} texts", len(texts)) as computing:
            return text_store(model, name, ids, texts, **computing)

    @contextlib.contextmanager
    def computing(self, what: str, count: int) -> Iterator[Computing]:
        """How the features of `what` are computed, while a progress bar shows it."""
        with self.stages.stage("embed", what, count) as advance:
            yield {
                "store": self.store,
                "progress": advance,
                "unreadable": self.unreadable,
                "batch_size": self.batch_size,
                "threads": self.threads,
            }

    def images(self, model: DualEncoder, examples: Examples) -> Readable:
        """The readable images of a split with their features in the store; raises as
        `jaxalign.eval.features.image_features`."""
        if examples.features is not None:
            if not isinstance(model, GivenFeatures):
                raise JaxalignError(
                    f"{examples.dataset} is features already, which {model.name} cannot embed; measure it"
                    " alone, as --dataset"
                )
            return Readable(examples, examples.features, np.arange(len(examples)), ())
        found = self.image_store(model, examples).read().require(examples.origin)
        shown = examples.select(found.rows) if found.left_out else examples
        return Readable(shown, found.values, found.rows, found.left_out)

    def texts(self, model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """Pre-projection features `[n, d_text]` of texts, as `text_store` has them."""
        return self.text_store(model, name, ids, texts).read().values

    def text_embeddings(
        self, model: DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str]
    ) -> np.ndarray:
        """Embeddings `[n, d]` of texts, by their features."""
        encoder = model.text_encoder() if isinstance(model, GivenFeatures) else model
        return np.asarray(text_embeddings(encoder, self.texts(encoder, name, ids, texts)))

    def measure(self, protocol: str, settings: Mapping[str, Any], compute: Callable[[], Result]) -> Run:
        """The run of these settings: found, or computed and kept.

        Of several processes all find it or all compute it, and the first one writes it.
        """
        agree(f"the measurement of {protocol}", lambda: settings)
        found = None if self.out is None else find_run(self.out, protocol, settings)
        if as_first(found is not None):
            if found is None:
                raise JaxalignError(f"{self.out} lacks runs here; expected a folder that all processes share")
            return found
        start = time.perf_counter()
        result = compute()
        run = Run(protocol, settings, seconds=round(time.perf_counter() - start, 3), **vars(result))
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
    if isinstance(model, GivenFeatures):
        found["stage"] = model.stage
        found |= {} if model.encoder is None else {"encoder": model_settings(model.encoder)}
    precision = feature_key.product_precision()
    return found if precision == "default" else found | {"precision": precision}


def digest_texts(texts: Sequence[str]) -> str:
    """Their number, and sixteen hexadecimal digits that stand for them."""
    text = json.dumps(list(texts), ensure_ascii=True)
    return f"{len(texts)} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
