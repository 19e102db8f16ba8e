"""The examples of a split: names, labels and captions at once, images on demand.

Two sets of them are compared by what labels are called, and by what each example is. Its captions
are texts, one after the other.
"""

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxalign.errors import JaxalignError, unknown_name

UNLABELLED = -1
INDEX_VERSION = 1


@dataclass(frozen=True, eq=False)
class Examples:
    """A split of a data set; n examples.

    Attributes:
      images: the images. Of the embedded data sets uint8 [n, h, w, 3], RGB; of the others `Images`,
        which reads and decodes one when it is asked for; None where there are captions only.
      labels: int32 [n] for each label, indices into `label_names`, -1 where an example has none.
      label_names: the names of each label's values, those of the other splits included; two may be alike.
      captions: the captions of each image; empty where the data set has none.
      file_names: unique in the data set.
      ground_truth: for each query the positions in the gallery that are `easy`, `hard` and `junk`; or empty.
      content: a digest of all of it, which tells copies of one version apart; empty where the version does.
      same: of each example what is equal for the same one in another split, however that is spelled; by
        default data set, split and file name.
      features: `[n, d]` that are there in place of images, of the kind that a run's settings say; or None.
      not_read: of a folder, how many files beside these look like images and are not read, by their endings.
    """

    dataset: str
    split: str
    version: str
    images: Any
    labels: Mapping[str, np.ndarray]
    label_names: Mapping[str, tuple[str, ...]]
    captions: tuple[tuple[str, ...], ...]
    file_names: tuple[str, ...]
    ground_truth: tuple[Mapping[str, list[int]], ...] = ()
    content: str = ""
    same: tuple[Hashable, ...] = ()
    features: np.ndarray | None = None
    not_read: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file_names)

    def __repr__(self) -> str:
        tasks = [f"{task} ({len(names):,})" for task, names in self.label_names.items()]
        holds = {"features": self.features is not None, "images": self.images is not None}
        holds["captions"] = bool(self.captions)
        what = " and ".join(name for name, there in holds.items() if there)
        labels = f", labelled by {', '.join(tasks)}" if tasks else ""
        return f"Examples({self.dataset}/{self.split} {self.version}: {len(self):,} {what}{labels})"

    @property
    def ids(self) -> tuple[str, ...]:
        return self.file_names

    @property
    def identities(self) -> tuple[Hashable, ...]:
        """What each example is: `same`, or its default."""
        return self.same or tuple((self.dataset, self.split, name) for name in self.file_names)

    @property
    def shows_images(self) -> bool:
        """Whether there are images, or features of some: else there are captions only."""
        return self.images is not None or self.features is not None

    @property
    def origin(self) -> str:
        """Data set and split, for people."""
        return f"{self.dataset}/{self.split}"

    @property
    def state(self) -> str:
        """The version, and the digest of the content where versions alone do not tell: part of every key."""
        return f"{self.version}+{self.content}" if self.content else self.version

    def select(self, rows: Sequence[int] | np.ndarray) -> "Examples":
        """The examples at `rows`, int [m] or bool [n]; images that are read on demand still are."""
        rows = np.arange(len(self))[np.asarray(rows)]
        return replace(
            self,
            images=None if self.images is None else self.images[rows],
            features=None if self.features is None else self.features[rows],
            labels={task: values[rows] for task, values in self.labels.items()},
            captions=tuple(self.captions[i] for i in rows) if self.captions else (),
            file_names=tuple(self.file_names[i] for i in rows),
            ground_truth=tuple(self.ground_truth[i] for i in rows) if self.ground_truth else (),
            same=tuple(self.same[i] for i in rows) if self.same else (),
        )


def common_labels(
    first: Examples, second: Examples, task: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The labels of both, int32 `[n]` and `[m]`, under one numbering, and its names.

    The names are those of `first`, then what `second` has beyond them. A number alone says nothing: what is 0
    in one split or source may be 1 in another. Raises JaxalignError where one of them has no such labelling,
    or the numberings differ and one gives several values one name.
    """
    for examples in (first, second):
        if task not in examples.labels:
            raise unknown_name(f"task of {examples.origin}", task, examples.labels)
    names, others = tuple(first.label_names[task]), tuple(second.label_names[task])
    if names == others:
        return first.labels[task], second.labels[task], names
    for examples, own in ((first, names), (second, others)):
        if len(set(own)) < len(own):
            raise JaxalignError(
                f"{examples.origin} gives several values of {task!r} the same name, so its labels cannot be"
                f" compared with those of {(second if examples is first else first).origin}, which are"
                " numbered otherwise; expected distinct names, or the same numbering"
            )
    place = {name: number for number, name in enumerate(names)}
    for name in others:
        place.setdefault(name, len(place))
    renumbered = np.array([*(place[name] for name in others), UNLABELLED], np.int32)  # -1 is the last one
    return first.labels[task], renumbered[second.labels[task]], tuple(place)


def choose_task(examples: Examples, task: str) -> str:
    """`task`, or the first labelling of the data set where it is empty; raises for one that it lacks, and for
    one that tells nothing apart."""
    if not examples.labels and examples.features is not None:
        raise JaxalignError(
            f"{examples.dataset} has no labels; say where they are (--labels FILE, --labels folders, or"
            " --label-key NAME)"
        )
    if not examples.labels:
        raise JaxalignError(
            f"{examples.dataset} has no labels; expected a data set with classes, see `jaxalign datasets`"
        )
    if task and task not in examples.labels:
        raise unknown_name(f"task of {examples.dataset}", task, examples.labels)
    task = task or next(iter(examples.labels))
    if len(names := examples.label_names[task]) == 1:
        raise JaxalignError(
            f"{examples.dataset} has one class alone, {names[0]!r}, in which every image is right; expected"
            " at least two: of a folder, give the one whose subfolders are the classes or splits"
        )
    return task


def own_positions(query: Examples, gallery: Examples) -> np.ndarray:
    """Where each query is in the gallery, int32 `[q, m]`: several times, or not at all, filled up with -1; as
    `exclude_self` of `ja.retrieval_metrics` takes it."""
    wanted = set(query.identities)
    places: dict[Hashable, list[int]] = {}
    for row, identity in enumerate(gallery.identities):
        if identity in wanted:
            places.setdefault(identity, []).append(row)
    return padded([places.get(identity, ()) for identity in query.identities])


def padded(rows: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    """Rows of positions as an array, filled up with -1."""
    width = max(1, max(map(len, rows), default=0))
    found = np.full((len(rows), width), -1, np.int32)
    for row, own in zip(found, rows, strict=True):
        row[: len(own)] = own
    return found


def positions_of(exclude_self: bool | ArrayLike, queries: int) -> np.ndarray:
    """The `own_positions` `[q, m]` of whatever `exclude_self` of `ja.retrieval_metrics` is."""
    if isinstance(exclude_self, bool):
        return np.arange(queries)[:, None] if exclude_self else np.full((queries, 1), -1)
    return np.asarray(exclude_self).reshape(queries, -1)


def renumber_own(own: np.ndarray, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The `own_positions` among the queries at `queries` int `[k]` and the items at `items`, ascending int
    `[l]`."""
    chosen = own[queries]
    at = np.searchsorted(items, chosen)
    kept = (chosen >= 0) & (np.append(items, -1)[at] == chosen)
    return padded([row[there] for row, there in zip(at, kept, strict=True)])


def count_own(own: np.ndarray) -> int:
    """How many queries are in the gallery, by their `own_positions`."""
    return int((own >= 0).any(axis=1).sum())


def concatenate(parts: Sequence[Examples]) -> Examples:
    """The examples of several splits of a data set, one after the other; raises JaxalignError for splits of
    which only some have captions, lists of positives, or a labelling."""
    first = parts[0]
    for part in parts[1:]:
        for kind in ("labels", "captions", "ground_truth"):
            if bool(getattr(part, kind)) != bool(getattr(first, kind)):
                have, lack = (part, first) if getattr(part, kind) else (first, part)
                raise JaxalignError(
                    f"{have.origin} has {kind.replace('_', ' ')} and {lack.origin} has none; expected splits"
                    " that can be put together"
                )
    labels, label_names = _concatenate_labels(parts)
    return replace(
        first,
        split="+".join(part.split for part in parts),
        version=_joint([part.version for part in parts]),
        content=_joint([part.content for part in parts]),
        images=_concatenate_images([part.images for part in parts]),
        features=_concatenate_images([part.features for part in parts]),
        labels=labels,
        label_names=label_names,
        captions=tuple(texts for part in parts for texts in part.captions),
        file_names=tuple(name for part in parts for name in part.file_names),
        ground_truth=tuple(truth for part in parts for truth in part.ground_truth),
        same=tuple(identity for part in parts for identity in part.identities),
    )


def _concatenate_images(images: Sequence[Any]) -> Any:
    if images[0] is None:
        return None
    if isinstance(images[0], np.ndarray):  # images of one size, or features
        return np.concatenate(images)
    return type(images[0]).concatenate(images)


def _concatenate_labels(
    parts: Sequence[Examples],
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Labels of all parts under the names of all."""
    first, labels, label_names = parts[0], {}, {}
    for task in first.labels:
        found, known = [first.labels[task]], first
        for part in parts[1:]:
            _, own, names = common_labels(known, part, task)
            found.append(own)
            known = replace(known, label_names={**known.label_names, task: names})
        labels[task], label_names[task] = np.concatenate(found), known.label_names[task]
    return labels, label_names


def _joint(versions: Sequence[str]) -> str:
    """One for all: what they share, or a digest of them."""
    if len(set(versions)) == 1:
        return versions[0]
    return hashlib.sha256("+".join(versions).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Captions:
    """All captions of a split, one after the other.

    Attributes:
      texts: n of them.
      ids: of the captions: the image's and a number.
      images: int `[n]`, which image each is of.
      queries: int `[q]`, the position of each image's first caption.
    """

    texts: tuple[str, ...]
    ids: tuple[str, ...]
    images: np.ndarray
    queries: np.ndarray


def collect_captions(captions: Sequence[Sequence[str]], ids: Sequence[str]) -> Captions:
    """The captions of each image; images with the very same ones, as an emoji in each style, count once.
    Raises JaxalignError where there are none."""
    seen: set[tuple[str, ...]] = set()
    texts: list[str] = []
    names: list[str] = []
    images: list[int] = []
    queries: list[int] = []
    for image, own in zip(ids, captions, strict=True):
        if not own or tuple(own) in seen:
            continue
        seen.add(tuple(own))
        images += [len(queries)] * len(own)
        queries.append(len(texts))
        texts += own
        names += [f"{image}#{i}" for i in range(len(own))]
    if not texts:
        raise JaxalignError(
            "the data set has no captions; expected one with captions, see `jaxalign datasets`"
        )
    return Captions(tuple(texts), tuple(names), np.array(images, np.int32), np.array(queries, np.int32))


def given_captions(examples: Examples) -> Captions:
    """The rows of features as captions, those with one label as the captions of one image; raises
    JaxalignError for rows without a label."""
    labels = examples.labels[choose_task(examples, "")]
    if (labels < 0).any():
        raise JaxalignError(
            f"{int((labels < 0).sum()):,} texts of {examples.origin} have no label, which says what image"
            " each is of; expected one for each"
        )
    _, first, images = np.unique(labels, return_index=True, return_inverse=True)
    return Captions((), examples.ids, images.astype(np.int32), np.sort(first).astype(np.int32))


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of the n examples of a split: a file beside them, with its SHA-256 in the first line.

    Attributes:
      file_names, labels, label_names, captions, ground_truth: as of `Examples`.
      boxes: left, top, right, bottom of each example, in pixels; empty where the whole images are meant.
    """

    file_names: tuple[str, ...]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    captions: tuple[tuple[str, ...], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    ground_truth: tuple[Mapping[str, list[int]], ...] = ()


def index_file(folder: Path, split: str) -> Path:
    return Path(folder) / f"{split}.index.json"


def write_index(folder: Any, split: str, index: Index) -> None:
    """Write the index of a split into `folder`."""
    content = {
        "version": INDEX_VERSION,
        "file_names": index.file_names,
        "labels": {task: values.tolist() for task, values in index.labels.items()},
        "label_names": index.label_names,
        "captions": index.captions,
        "boxes": index.boxes,
        "ground_truth": index.ground_truth,
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    index_file(folder, split).write_text(f"{digest}\n{text}\n", encoding="utf-8")


def read_index(folder: Path, split: str) -> Index:
    """The index of a split; raises ValueError for one that is not there, or damaged."""
    file = index_file(folder, split)
    if not file.is_file():
        raise ValueError(f"the index of {split} is missing")
    digest, _, text = file.read_text(encoding="utf-8").rstrip("\n").partition("\n")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise ValueError(f"{file.name} does not have the content that was written")
    content = json.loads(text)
    if content["version"] != INDEX_VERSION:
        raise ValueError(f"{file.name} has version {content['version']} instead of {INDEX_VERSION}")
    return Index(
        file_names=tuple(content["file_names"]),
        labels={task: np.array(values, np.int32) for task, values in content["labels"].items()},
        label_names={task: tuple(names) for task, names in content["label_names"].items()},
        captions=tuple(tuple(texts) for texts in content["captions"]),
        boxes=tuple((box[0], box[1], box[2], box[3]) for box in content["boxes"]),
        ground_truth=tuple(content["ground_truth"]),
    )
