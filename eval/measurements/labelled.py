"""Training and test pictures of a data set under one labelling, and prompts for its classes."""

from functools import cached_property
from typing import Any

import numpy as np

import jaxalign as ja
from eval.datasets import Examples, fill_template, find_dataset
from eval.features.augment import subset_features
from eval.features.key import make_key
from eval.features.obtain import default_store
from eval.features.store import FeatureStore
from eval.protocols.classification import UNLABELLED
from eval.protocols.heads import text_embeddings
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name

from .workspace import Workspace, choose_task


class LabelledPair:
    """Pictures to learn from and pictures to classify; examples without label are left out of both.

    Args:
      task: the labelling; by default the data set's first one.
      train, test: splits; by default those of the data set's protocol.

    Raises:
      JaxalignError: unknown data set, split or labelling, captions without pictures, or labels out of range.
    """

    def __init__(
        self,
        workspace: Workspace,
        model: DualEncoder,
        dataset: str,
        task: str = "",
        train: str = "",
        test: str = "",
    ):
        self.workspace, self.model, self.dataset = workspace, model, dataset
        self.record = find_dataset(dataset)
        self.train_split, self.test_split = train or self.record.train, test or self.record.test
        if not self.test_split:
            raise JaxalignError(
                f"{dataset} has no classification protocol; say which splits to take (--train, --test), of"
                f" {', '.join(self.record.splits)}"
            )
        self.test = self._load(self.test_split)
        self.task = choose_task(self.test, task)
        self.names = self.test.label_names[self.task]
        self._test_rows, self.test_labels = self._labelled(self.test)

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a run's settings that this is; `train` where training pictures take part."""
        return {
            "dataset": self.test.dataset,
            "version": self.test.version,
            "task": self.task,
            "test": self.test.split,
        }

    @cached_property
    def train(self) -> Examples:
        if not self.train_split:
            raise JaxalignError(f"{self.record.name} has no training split; only zero-shot can be measured")
        return self._load(self.train_split)

    @cached_property
    def train_labels(self) -> np.ndarray:
        """Int `[n]`, of the training examples that have a label."""
        return self._train_rows_and_labels[1]

    @cached_property
    def test_pre(self) -> np.ndarray:
        """Pre-projection features `[t, d_image]` of the test examples that have a label."""
        return take(self.workspace.images(self.model, self.test).values, self._test_rows)

    @cached_property
    def train_pre(self) -> np.ndarray:
        """Pre-projection features `[n, d_image]` of the training examples that have a label."""
        rows = self._train_rows_and_labels[0]
        return take(self.workspace.images(self.model, self.train).values, rows)

    def drawn_pre(self, rows: np.ndarray, augmentation: int | None) -> np.ndarray:
        """Pre-projection features `[m, d_image]` of the labelled training examples at `rows`.

        Out of those of the whole split where they are at hand or hardly more, else only these are computed.
        """
        many = len(self.train) < 2 * len(rows)
        if augmentation is None and (many or "train_pre" in self.__dict__ or self._is_stored()):
            return self.train_pre[rows]
        name = f"{self.train.dataset}/{self.train.split}"
        with self.workspace.stages.stage(
            "embed", f"{self.model.name}: {name}, {len(rows)} pictures that are drawn", len(rows)
        ) as advance:
            return subset_features(
                self.model,
                self.train,
                self._train_rows_and_labels[0][rows],
                augmentation=augmentation,
                store=self.workspace.store,
                progress=advance,
            ).values

    def prompts(self, templates: str = "single") -> np.ndarray:
        """Embeddings `[c, t, d]` of the class names in each of a data set's templates of that name."""
        known = self.record.templates
        if templates not in known:
            raise unknown_name(f"templates of {self.record.name}", templates, known)
        texts = [fill_template(t, name) for name in self.names for t in known[templates]]
        pre = self.workspace.texts(
            self.model,
            f"{self.task} names of {self.record.name}, {templates}",
            [str(i) for i in range(len(texts))],
            texts,
        )
        return np.asarray(text_embeddings(self.model, pre)).reshape(
            self.num_classes, len(known[templates]), -1
        )

    def subspace_texts(self) -> tuple[str, ...]:
        """ImageNet's class names in the data set's own template, for few-shot PCA<-."""
        return tuple(fill_template(self.record.template, name) for name in ja.class_names("imagenet"))

    def _is_stored(self) -> bool:
        examples = self.train
        key = make_key(self.model, examples.dataset, examples.version, examples.split, "image")
        root = default_store() if self.workspace.store is None else self.workspace.store
        found = FeatureStore.find(root, key)
        return found is not None and not found.missing()

    def _load(self, split: str) -> Examples:
        examples = self.workspace.load_split(self.dataset, split)
        if examples.images is None:
            raise JaxalignError(f"{self.record.name} has captions only; expected a data set with pictures")
        return examples

    @cached_property
    def _train_rows_and_labels(self) -> tuple[np.ndarray, np.ndarray]:
        if self.train.label_names.get(self.task) != self.names:
            raise JaxalignError(
                f"the splits {self.train.split} and {self.test.split} of {self.record.name} have different"
                f" classes for {self.task!r}; expected the same ones"
            )
        return self._labelled(self.train)

    def _labelled(self, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the examples that have a label, and those labels, checked."""
        labels = np.asarray(examples.labels[self.task])
        rows = np.flatnonzero(labels != UNLABELLED)
        where = f"{examples.dataset}/{examples.split}"
        if not rows.size:
            raise JaxalignError(f"no picture of {where} has a label for {self.task!r}; choose another")
        wrong = rows[(labels[rows] < 0) | (labels[rows] >= self.num_classes)]
        if wrong.size:
            raise JaxalignError(
                f"{examples.ids[wrong[0]]} of {where} has label {labels[wrong[0]]} ({wrong.size} labels are"
                f" out of range); expected 0 to {self.num_classes - 1}, or -1 for none"
            )
        return rows, labels[rows]


def take(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`values[rows]`, without a copy where these are all of them."""
    return values if len(rows) == len(values) else values[rows]
