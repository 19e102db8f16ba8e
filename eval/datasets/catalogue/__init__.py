"""The table of data sets, and how one is found by name."""

from collections.abc import Mapping
from types import MappingProxyType

from jaxalign.errors import unknown_name

from ..records import DatasetRecord
from . import captions, embedded, few_shot, retrieval

DATASETS: Mapping[str, DatasetRecord] = MappingProxyType(
    {
        record.name: record
        for record in (*embedded.RECORDS, *few_shot.RECORDS, *retrieval.RECORDS, *captions.RECORDS)
    }
)


# What stands before the path of a folder: whether its subfolders are splits or classes follows from their
# names, or is said.
FOLDER, CLASSES, SPLITS = READINGS = ("folder:", "classes:", "splits:")
JOINED = "@tfds"


def find_dataset(name: str | DatasetRecord) -> DatasetRecord:
    """The record of `name`; a record is its own.

    `folder:PATH` is the data set of a folder of pictures (`classes:PATH`, `splits:PATH` where it is said what
    its subfolders are), `NAME@tfds` that of CoOp's splits on a copy of TFDS.

    Raises:
      JaxalignError: no data set has that name; the nearest names are offered.
    """
    if isinstance(name, DatasetRecord):
        return name
    if name.startswith(READINGS):
        from ..picture_folder import folder_record

        return folder_record(name)
    if name.endswith(JOINED):
        from ..join import joined_record

        return joined_record(name.removesuffix(JOINED))
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS, "a folder of pictures is written folder:PATH")
    return DATASETS[name]
