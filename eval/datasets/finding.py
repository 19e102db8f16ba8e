"""What a data set is, by its name: one of the table, a folder of images, or one on a copy of TFDS."""

from jaxalign.errors import unknown_name

from . import catalogue
from .feature_reading import FEATURES, FeatureReading
from .folder_splits import READINGS
from .image_folder import folder_record
from .records import DatasetRecord
from .tfds_images import JOINED, joined_record


def find_dataset(name: str | DatasetRecord, reading: FeatureReading | None = None) -> DatasetRecord:
    """The record of `name`; a record is its own.

    `folder:PATH` is the data set of a folder of images (`classes:PATH`, `splits:PATH` where it is said what
    its subfolders are), which is read here, once: `load_split` of the record does not look again. `NAME@tfds`
    is that of CoOp's splits on a copy of TFDS. `features:PATH` is that of features that are there already,
    read as `reading` says.

    Raises:
      JaxalignError: no data set has that name (the nearest are offered), or a folder that cannot be read.
    """
    if isinstance(name, DatasetRecord):
        return name
    if name.startswith(READINGS):
        return folder_record(name)
    if name.startswith(FEATURES):
        from jaxalign.eval.feature_files import features_record  # here: the other records need no jax

        return features_record(name, reading)
    if name.endswith(JOINED):
        return joined_record(name.removesuffix(JOINED))
    known = catalogue.DATASETS
    if name not in known:
        raise unknown_name("data set", name, known, "a folder of images is written folder:PATH")
    return known[name]
