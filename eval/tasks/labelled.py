"""Training and test images of a data set under one labelling, and prompts for its classes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets import Examples, fill_template
from jaxalign.eval.datasets.examples import UNLABELLED, choose_task, common_labels, count_own, own_positions
from jaxalign.eval.features import are_stored
from jaxalign.eval.features.obtain import subset_features
from jaxalign.eval.processes import as_first
from jaxalign.eval.tasks.pairs import Readable
from jaxalign.eval.tasks.projecting import class_texts_of
from jaxalign.eval.tasks.workspace import Workspace, digest_texts


@dataclass(frozen=True, eq=False)
class Drawn:
    """Training examples that were drawn.

    Attributes:
      labels: int `[n]`, of all that could be drawn.
      rows: int `[m]`, ascending: which of those were.
      pre: `[m, d_image]`, their pre-projection features.
      left_out: ids of those that were drawn and cannot be read.
    """

    labels: np.ndarray
    rows: np.ndarray
    pre: np.ndarray
    left_out: tuple[str, ...]


class LabelledPair:
    """Images to learn from and images to classify; examples without label are left out of both.

    `train`, `test` and `train_labels` are of the whole splits, which are there before any image is read;
    everything else is about the images that can be read.

    Args:
      task: the labelling; by default that of the data set's protocol.
      train, test: splits; by default those of the data set's protocol.

    Raises:
      JaxalignError: unknown data set, split or labelling, captions without images, or labels out of range.
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
        self.record = workspace.find_dataset(dataset)
        self.train_split, self.test_split = train or self.record.train, test or self.record.test
        if not self.test_split:
            raise JaxalignError(
                f"{dataset} has no classification protocol; say which splits to take (--train, --test), of"
                f" {', '.join(self.record.splits)}"
            )
        self.test = self._load(self.test_split)
        self.task = choose_task(self.test, task or self.record.classified)
        self.names = self.test.label_names[self.task]
        self._labelled(self.test)  # says what is wrong before any image is read

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a run's settings that this is; `train` where training images take part."""
        return {
            "dataset": self.test.dataset,
            "version": self.test.state,
            "task": self.task,
            "test": self.test.split,
        } | self.workspace.image_settings

    @property
    def train_settings(self) -> dict[str, Any]:
        """What is added where training images take part."""
        return {"train": self.train.split, "train_version": self.train.state}

    def text_settings(self, templates: str) -> dict[str, Any]:
        """What is added where class names take part, in the templates of that name."""
        if (given := class_texts_of(self.model)) is not None:
            given.of_classes(self.num_classes)  # raises before anything is measured
            return {"class_texts": given.digest}
        return {"templates": templates, "prompts": digest_texts(self._prompt_texts(templates))}

    @cached_property
    def train(self) -> Examples:
        if not self.train_split:
            raise JaxalignError(f"{self.record.name} has no training split; only zero-shot can be measured")
        return self._load(self.train_split)

    @cached_property
    def train_labels(self) -> np.ndarray:
        """Int `[n]`, of all training examples that have a label."""
        return self._train_rows_and_labels[1]

    def check_training(self) -> None:
        """Raise where a class has no training image, before any is read."""
        lacking = np.setdiff1d(np.arange(self.num_classes), self.train_labels)
        if lacking.size:
            raise JaxalignError(
                f"{lacking.size} of {self.num_classes} classes have no image in {self.train.origin}"
                f" ({self.names[lacking[0]]} for one), so that none can be classified as such; expected some"
                " of each"
            )

    @cached_property
    def read_test(self) -> Readable:
        return self.workspace.images(self.model, self.test)

    @cached_property
    def read_train(self) -> Readable:
        return self.workspace.images(self.model, self.train)

    @cached_property
    def test_pre_and_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Pre-projection features `[t, d_image]` and labels int `[t]` of the test examples with a label."""
        rows, labels = self._labelled(self.read_test.examples)
        return take(self.read_test.pre, rows), labels

    @cached_property
    def train_pre_and_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The same, `[n, d_image]` and int `[n]`, of the training examples."""
        rows, labels = self._labelled(self.read_train.examples)
        return take(self.read_train.pre, rows), labels

    @cached_property
    def trained_on(self) -> int:
        """How many of the test examples with a label and an image that can be read are training examples."""
        rows, _ = self._labelled(self.read_test.examples)
        known = self.train.select(self._train_rows_and_labels[0])
        return count_own(own_positions(self.read_test.examples.select(rows), known))

    def draw(self, choose: Callable[[np.ndarray], np.ndarray], augmentation: int | None = None) -> "Drawn":
        """Some of the labelled training examples, with their features.

        Where an image that is drawn cannot be read, and may be left out, all are drawn again without it. So
        what is drawn depends on the images alone, and not on what the store holds.

        Args:
          choose: from labels int `[n]` to ascending positions int `[m]`.
          augmentation: as for `subset_features`.
        """
        rows, labels = self._train_rows_and_labels
        lost: list[str] = []
        while True:
            chosen = choose(labels)
            pre, unreadable = self._read_drawn(rows[chosen], augmentation)
            if not unreadable:
                return Drawn(labels, chosen, pre, tuple(lost))
            lost += unreadable
            kept = ~np.isin(np.array(self.train.ids)[rows], unreadable)
            rows, labels = rows[kept], labels[kept]

    def _read_drawn(self, rows: np.ndarray, augmentation: int | None) -> tuple[np.ndarray, tuple[str, ...]]:
        """Features `[m, d_image]` of the training examples at `rows`, and ids of those that were left out.

        Out of those of the whole split where they are at hand or hardly more, else only these are computed.
        """
        many = len(self.train) < 2 * len(rows)
        is_given = self.train.features is not None
        if is_given and augmentation is not None:
            raise JaxalignError(f"{self.train.dataset} has features, which cannot be cropped (--augment)")
        at_hand = is_given or many or "read_train" in self.__dict__
        stored = lambda: as_first(are_stored(self.model, self.train, self.workspace.store))
        if augmentation is None and (at_hand or stored()):
            shown = self.read_train
            lost = rows[~np.isin(rows, shown.rows)]
            at = np.searchsorted(shown.rows, np.setdiff1d(rows, lost))
            return shown.pre[at], tuple(self.train.ids[row] for row in lost)
        title = f"{self.model.name}: {self.train.origin}, {len(rows)} images that are drawn"
        with self.workspace.computing(title, len(rows)) as computing:
            found = subset_features(self.model, self.train, rows, augmentation=augmentation, **computing)
        return found.values, found.left_out

    def prompts(self, templates: str = "single") -> np.ndarray:
        """Embeddings `[c, t, d]` of the class names in each of a data set's templates of that name."""
        if (given := class_texts_of(self.model)) is not None:
            return given.of_classes(self.num_classes)[:, None]
        texts = self._prompt_texts(templates)
        name = f"{self.task} names of {self.record.name}, {templates}"
        ids = [str(i) for i in range(len(texts))]
        found = self.workspace.text_embeddings(self.model, name, ids, texts)
        return found.reshape(self.num_classes, len(texts) // self.num_classes, -1)

    def _prompt_texts(self, templates: str) -> list[str]:
        known = self.record.templates
        if templates not in known:
            raise unknown_name(f"templates of {self.record.name}", templates, known)
        return [fill_template(t, name) for name in self.names for t in known[templates]]

    def _load(self, split: str) -> Examples:
        examples = self.workspace.load_split(self.record, split)
        if not examples.shows_images:
            raise JaxalignError(f"{self.record.name} has captions only; expected a data set with images")
        return examples

    @cached_property
    def _train_rows_and_labels(self) -> tuple[np.ndarray, np.ndarray]:
        return self._labelled(self.train)

    def _labelled(self, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the examples that have a label, and those labels as the test split numbers them."""
        _, labels, names = common_labels(self.test, examples, self.task)
        if names != self.names:
            raise JaxalignError(
                f"the splits {examples.split} and {self.test.split} of {self.record.name} have different"
                f" classes for {self.task!r}; expected the same ones"
            )
        rows, where = np.flatnonzero(labels != UNLABELLED), examples.origin
        if not rows.size:
            raise JaxalignError(
                f"no image of {examples.origin} has a label for {self.task!r}; choose another"
            )
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
