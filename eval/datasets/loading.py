"""Find a data set by its name, and read its splits.

A data set is one of the table (`catalogue`) or of another package, of which a copy is prepared once. Or it
is there already: a folder of images, tar files, what TFDS or Hugging Face's library has written, CoOp's
splits on a copy of TFDS, features.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from jaxalign.errors import JaxalignError, unknown_name

from . import catalogue, prepared
from .data_reading import FEATURES, HUGGINGFACE, TFDS, WEBDATASET, DataReading, Keys
from .examples import Examples, concatenate
from .huggingface import huggingface_record
from .image_folder import READINGS, canonical, folder_record
from .records import DatasetRecord, Folder
from .tfds_copies import JOINED, joined_record, tfds_record
from .webdataset import webdataset_record

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

GROUP = "jaxalign.datasets"  # entry points, each of which is a `DatasetRecord`
_registered: dict[str, DatasetRecord] = {}


def find_dataset(
    name: str | DatasetRecord, reading: DataReading | None = None, data_dir: Folder = None
) -> DatasetRecord:
    """The record of `name`; a record is its own.

    `folder:PATH` is the data set of a folder of images (`classes:PATH`, `splits:PATH` where it is said what
    its subfolders are), which is read here, once: `load_split` of the record does not look again. `NAME@tfds`
    is that of CoOp's splits on a copy of TFDS. `tfds:NAME[:VERSION]` is any data set that TFDS has prepared,
    `webdataset:PATH` and `huggingface:PATH` are tar files and folders in these layouts, and `features:PATH`
    is features that are there already, all read as `reading` says. Raises JaxalignError for a name that no
    data set has (the nearest are offered), or a folder that cannot be read.
    """
    if isinstance(name, DatasetRecord):
        return name
    if name.startswith(READINGS):
        return folder_record(name)
    if name.startswith(FEATURES):
        from jaxalign.eval.feature_files import features_record  # here: the other records need no jax

        return features_record(name, reading)
    if name.startswith((TFDS, WEBDATASET, HUGGINGFACE)):
        reading = reading or DataReading()
        keys = Keys(reading.image_key, reading.label_key, reading.text_key)
        if name.startswith(TFDS):
            return tfds_record(name, keys, data_dir)
        return (webdataset_record if name.startswith(WEBDATASET) else huggingface_record)(name, keys)
    if name.endswith(JOINED):
        return joined_record(name.removesuffix(JOINED))
    known = known_datasets()
    if name not in known:
        raise unknown_name("data set", name, known, "a folder of images is written folder:PATH")
    return known[name]


def load_split(
    name: str | DatasetRecord,
    split: str,
    data_dir: Folder = None,
    source_dir: Folder = None,
    *,
    on_demand: bool = False,
) -> Examples:
    """The examples of a split in the order of the files; prepares the data set first where that was not done.

    Args:
      name: as for `find_dataset`.
      split: of the data set; `a+b` is both, one after the other. `query-uncropped` is `query` with whole
        images.
      data_dir: see `data_root`.
      source_dir: see `source_root`.
      on_demand: whether the images of the embedded data sets, too, are decoded when they are asked for.

    Raises:
      JaxalignError: unknown data set or split, data that are not there (and where to put them), a folder
        that cannot be written, or a damaged prepared copy.
    """
    record = find_dataset(name, data_dir=data_dir)
    parts = split_parts(record, split)
    if record.open_split is not None:
        loaded = [record.open_split(part, data_dir, source_dir) for part in parts]
    else:
        loaded = prepared.load_parts(record, parts, data_dir, source_dir, on_demand)
    return loaded[0] if len(loaded) == 1 else concatenate(loaded)


def split_parts(record: DatasetRecord, split: str) -> list[str]:
    """The splits that `split` is made of, by their names in `record`; raises for one that is unknown, or
    there twice."""
    known = list(record.splits)
    if not record.in_place:
        known += [f"{name}{prepared.UNCROPPED}" for name in known if name == "query"]
    parts: list[str] = []
    for name in split.split("+"):
        part = canonical(name) if record.in_place and name not in known else name  # a folder's have several
        if part not in known:
            raise unknown_name(f"split of {record.name}", name, known)
        if part in parts:
            raise JaxalignError(f"the split {split} has {part} twice; expected each once")
        parts.append(part)
    return parts


def prepare(
    name: str | DatasetRecord, data_dir: Folder = None, source_dir: Folder = None
) -> "tfds.core.DatasetBuilder":
    """The TFDS builder of a data set, prepared into `data_dir` on the first call and opened on later ones.

    Args:
      name: one of `DATASETS`, or a record.
      data_dir: TFDS's data folder (see `data_root`).
      source_dir: the folder of unpacked downloads (see `source_root`).

    Returns:
      A builder to read from with `as_data_source` (the files are ArrayRecord).

    Raises:
      JaxalignError: unknown name, data that are not there (and where to put them), lists or images that
        are not as they should be, a folder that cannot be written, or a damaged prepared copy.
    """
    return prepared.prepare(find_dataset(name), data_dir, source_dir)


def register_dataset(record: DatasetRecord) -> None:
    """Let `record` be found by its name, in this process; an entry point of `GROUP` does it in all of them.
    Raises JaxalignError for a name that is taken, or reads as a path."""
    if record.name in known_datasets():
        raise JaxalignError(f"there is a data set {record.name!r} already; give yours another name")
    _registered[record.name] = _check(record)


def known_datasets() -> Mapping[str, DatasetRecord]:
    """All data sets by name: ours, those of installed packages, and those that were registered."""
    return MappingProxyType({**catalogue.DATASETS, **_of_entry_points(), **_registered})


@cache
def _of_entry_points() -> Mapping[str, DatasetRecord]:
    found: dict[str, DatasetRecord] = {}
    for entry in entry_points(group=GROUP):
        record = _check(entry.load())
        if record.name in catalogue.DATASETS or record.name in found:
            raise JaxalignError(f"the entry point {entry.name} has a data set {record.name!r}; there is one")
        found[record.name] = record
    return MappingProxyType(found)


def _check(record: object) -> DatasetRecord:
    if not isinstance(record, DatasetRecord):
        raise JaxalignError(f"a data set is {record!r:.200}; expected a DatasetRecord")
    if not record.name or ":" in record.name or "@" in record.name:
        raise JaxalignError(f"a data set is called {record.name!r}; expected a name without ':' and '@'")
    return record
