"""How data of one's own are read as a data set: features that are there, and other people's layouts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxalign.errors import JaxalignError, unknown_name

from .examples import Examples
from .records import DatasetRecord, Folder

FEATURES = "features:"  # `jaxalign.eval.feature_files` reads them
TFDS, WEBDATASET, HUGGINGFACE = "tfds:", "webdataset:", "huggingface:"


@dataclass(frozen=True)
class DataReading:
    """What the files of a data set are read as; empty takes what cannot be meant otherwise.

    Attributes:
      image_key: of TFDS, WebDataset and Hugging Face: the feature that is the image; "none" for texts alone.
      text_key: of the same: what is taken for captions; by default nothing.
      features_key: key of the features; of one column for each number, what the columns begin with.
      labels: file of the labels, `train=FILE,test=FILE` of several splits, or `folders` for the folder that
        each id lies in; by default the features' own file.
      label_key: key or column of the labels, of all layouts.
      label_names: file of the classes' names, one for each number from 0 on.
      ids: file of the ids, as for `labels`.
      id_key: key or column of the ids.
    """

    image_key: str = ""
    text_key: str = ""
    features_key: str = ""
    labels: str = ""
    label_key: str = ""
    label_names: str = ""
    ids: str = ""
    id_key: str = ""


@dataclass(frozen=True)
class Keys:
    """Which features of an example are its image, its label and its texts; empty for the only ones.

    Attributes:
      image: "none" for a data set of texts.
      label: an integer with names, which is its task.
      text: what is taken for captions; by default nothing.
    """

    image: str = ""
    label: str = ""
    text: str = ""

    def choose(self, name: str, images: Sequence[str], labels: Sequence[str], texts: Sequence[str]) -> "Keys":
        """The features that are read, of those that are images, labels and (maybe) texts; raises
        JaxalignError for an unknown feature, several that could be meant, or neither image nor text."""
        for key, known in ((self.image, [*images, "none"]), (self.label, labels), (self.text, texts)):
            if key and key not in known:
                raise unknown_name(f"feature of {name}", key, known)
        for what, key, known in (("image", self.image, images), ("label", self.label, labels)):
            if not key and len(known) > 1:
                raise JaxalignError(f"{name} has the {what}s {', '.join(known)}; say which (--{what}-key)")
        image = "" if self.image == "none" else self.image or "".join(images)
        if not image and not self.text:
            raise JaxalignError(
                f"{name} has no images; say which of its features are texts (--text-key): one of"
                f" {', '.join(texts) or 'none there'}"
            )
        return Keys(image, self.label or "".join(labels), self.text)


def own_record(
    name: str,
    splits: Mapping[str, int],
    keys: Keys,
    open_split: Callable[[str, Folder, Folder], Examples],
    *,
    source: str,
    **facts: Any,
) -> DatasetRecord:
    """The record of a data set that is read where it is: `test` finds `train`, as far as there are these.

    Args:
      splits: name of each split and its number of examples; at least one.
      keys: those that are read.
      facts: further ones of the record, and what is otherwise than said: licence, version, query and others.
    """
    if not splits:
        raise JaxalignError(f"{name} has no splits; expected at least one")
    test = next((split for split in ("test", "validation", "val") if split in splits), next(iter(splits)))
    train = "train" if "train" in splits else test
    found: dict[str, Any] = {
        "licence": "one's own",
        "description": f"Read from {source}",
        "tasks": (keys.label,) if keys.label else (),
        "captions": f"the feature {keys.text}" if keys.text else "",
        "images": bool(keys.image),
        "query": test,
        "gallery": train,
        "train": train,
        "test": test,
    } | facts
    protocol = (
        f"Queries are `{found['query']}`, the gallery is `{found['gallery']}`; a query that is in the gallery"
        " is left out of its own."
    )
    return DatasetRecord(name, "", splits, source=source, protocol=protocol, open_split=open_split, **found)


def as_texts(value: Any) -> tuple[str, ...]:
    """The texts of an example, of which there is one, or a list."""
    values = [value] if isinstance(value, bytes | str) else list(value)
    return tuple(text.decode() if isinstance(text, bytes) else str(text) for text in values)
