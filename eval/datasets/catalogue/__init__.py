"""The table of data sets: each is a record, and nothing else. Those of other packages stand beside ours."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from jaxalign.errors import JaxalignError

from ..records import DatasetRecord
from . import few_shot, retrieval

_EMOJI = DatasetRecord(
    name="emoji",
    builder="jaxalign.eval.datasets.emoji.builders:Emoji",
    splits={"train": 8088, "test": 2148},
    tasks=("emoji", "group", "subgroup", "style"),
    captions="the Unicode name, then pairs of CLDR keywords",
    licence="Apache-2.0, MIT, CC-BY-4.0, CC-BY-SA-4.0 (by drawing style)",
    source="inside the package",
    description="Emoji in seven drawing styles on white, split by emoji",
    protocol=(
        "Queries and gallery are `test`, the query itself left out; choices are made on `train`, other emoji."
    ),
    query="test",
    gallery="test",
    train="train",
    test="test",
    classified="group",  # no emoji is in both splits
    template="a photo of {}",
    in_memory=True,
)
_SCENES = replace(
    _EMOJI,
    name="emoji-scenes",
    builder="jaxalign.eval.datasets.emoji.builders:EmojiScenes",
    tasks=(*_EMOJI.tasks, "background", "texture", "size", "place"),
    captions="one, of the name and some of the context",
    description="The same emoji on coloured, textured backgrounds at several sizes and places",
)
_FAMILIES = ((_EMOJI, _SCENES), few_shot.RECORDS, retrieval.RECORDS)
DATASETS: Mapping[str, DatasetRecord] = MappingProxyType(
    {record.name: record for family in _FAMILIES for record in family}
)
GROUP = "jaxalign.datasets"  # entry points, each of which is a `DatasetRecord`
_registered: dict[str, DatasetRecord] = {}


def register_dataset(record: DatasetRecord) -> None:
    """Let `record` be found by its name, in this process; an entry point of `GROUP` does it in all of them.
    Raises JaxalignError for a name that is taken, or reads as a path."""
    if record.name in known_datasets():
        raise JaxalignError(f"there is a data set {record.name!r} already; give yours another name")
    _registered[record.name] = _check(record)


def known_datasets() -> Mapping[str, DatasetRecord]:
    """All data sets by name: ours, those of installed packages, and those that were registered."""
    return MappingProxyType({**DATASETS, **_of_entry_points(), **_registered})


@cache
def _of_entry_points() -> Mapping[str, DatasetRecord]:
    found: dict[str, DatasetRecord] = {}
    for entry in entry_points(group=GROUP):
        record = _check(entry.load())
        if record.name in DATASETS or record.name in found:
            raise JaxalignError(f"the entry point {entry.name} has a data set {record.name!r}; there is one")
        found[record.name] = record
    return MappingProxyType(found)


def _check(record: object) -> DatasetRecord:
    if not isinstance(record, DatasetRecord):
        raise JaxalignError(f"a data set is {record!r:.200}; expected a DatasetRecord")
    if not record.name or ":" in record.name or "@" in record.name:
        raise JaxalignError(f"a data set is called {record.name!r}; expected a name without ':' and '@'")
    return record
