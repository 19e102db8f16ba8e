"""The table of data sets: each is a record, and nothing else."""

from collections.abc import Mapping
from types import MappingProxyType

from ..records import DatasetRecord
from . import captions, embedded, few_shot, retrieval

_FAMILIES = (embedded, few_shot, retrieval, captions)
DATASETS: Mapping[str, DatasetRecord] = MappingProxyType(
    {record.name: record for family in _FAMILIES for record in family.RECORDS}
)
