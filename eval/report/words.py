"""What captions say of some images under several methods: a part of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxalign.eval.report.examples import Shown
from jaxalign.eval.written_tables import WrittenTable


@dataclass(frozen=True)
class Worded:
    """Images in words.

    Attributes:
      about: how to read it.
      queries: the images.
      captions: by method one for each of them.
      named: how often captions name what there is.
    """

    about: str
    queries: Sequence[Shown]
    captions: Mapping[str, Sequence[str]]
    named: WrittenTable
