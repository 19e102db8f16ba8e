"""The table of data sets: each is a record, and nothing else. Those of other packages stand beside ours."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from jaxalign.errors import JaxalignError

from ..records import DatasetRecord
from . import captions, embedded, few_shot, retrieval

_FAMILIES = (embedded, few_shot, retrieval, captions)
DATASETS: Mapping[str, DatasetRecord] = MappingProxyType(
    {record.name: record for family in _FAMILIES for record in family.RECORDS}
)
GROUP = "jaxalign.datasets"  # entry points, each of which is a `DatasetRecord`
_registered: dict[str, DatasetRecord] = {}


def register_dataset(record: DatasetRecord) -> None:
    """Let `record` be found by its name, in this process; an entry point of `GROUP` does it in all of them.

    Raises:
      JaxalignError: the name is taken, or reads as a path.
    """
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
