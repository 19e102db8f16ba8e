"""Two sets of examples side by side: labels are compared by their names, examples by what they are."""

from collections.abc import Hashable, Sequence

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from .content import UNLABELLED
from .examples import Examples


def common_labels(
    first: Examples, second: Examples, task: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The labels of both, int32 `[n]` and `[m]`, under one numbering, and its names.

    The names are those of `first`, then what `second` has beyond them. A number alone says nothing: what is 0
    in one split or source may be 1 in another.

    Raises:
      JaxalignError: one of them has no such labelling, or numberings that differ and give several values
        one name.
    """
    for examples in (first, second):
        if task not in examples.labels:
            raise unknown_name(f"labelling of {examples.origin}", task, examples.labels)
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


def own_positions(query: Examples, gallery: Examples) -> np.ndarray:
    """Where each query is in the gallery, int32 `[q, m]`: several times, or not at all, filled up with -1."""
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
