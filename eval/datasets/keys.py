"""What data sets of one's own have in common, whatever they are kept in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxalign.errors import JaxalignError, unknown_name

from .examples import Examples
from .records import DatasetRecord, Folder


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
        """The features that are read, of those that are images, labels and (maybe) texts.

        Raises:
          JaxalignError: an unknown feature, several that could be meant, or neither image nor text.
        """
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
    version: str = "",
    licence: str = "one's own",
) -> DatasetRecord:
    """The record of a data set that is read where it is: `test` finds `train`, as far as there are these.

    Args:
      splits: name of each split and its number of examples; at least one.
      keys: those that are read.
    """
    if not splits:
        raise JaxalignError(f"{name} has no splits; expected at least one")
    test = next((split for split in ("test", "validation", "val") if split in splits), next(iter(splits)))
    train = "train" if "train" in splits else test
    return DatasetRecord(
        name=name,
        builder="",
        version=version or "1.0.0",
        splits=splits,
        tasks=(keys.label,) if keys.label else (),
        captions=f"the feature {keys.text}" if keys.text else "",
        licence=licence,
        source=source,
        description=f"Read from {source}",
        protocol=(
            f"Queries are `{test}`, the gallery is `{train}`; a query that is in the gallery is left out of"
            " its own."
        ),
        query=test,
        gallery=train,
        train=train,
        test=test,
        images=bool(keys.image),
        open_split=open_split,
    )


def as_texts(value: Any) -> tuple[str, ...]:
    """The texts of an example, of which there is one, or a list."""
    values = [value] if isinstance(value, bytes | str) else list(value)
    return tuple(text.decode() if isinstance(text, bytes) else str(text) for text in values)
