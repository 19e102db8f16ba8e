"""How data of one's own are read as a data set: features that are there, and other people's layouts."""

from dataclasses import dataclass, fields

from jaxalign.errors import JaxalignError

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

    def check(self, dataset: str) -> None:
        """Raise JaxalignError where something is said that `dataset` has no place for."""
        heeded = HEEDED.get(dataset.partition(":")[0] + ":", ())
        for name in (field.name for field in fields(self)):
            if getattr(self, name) and name not in heeded:
                about = ", ".join(f"{prefix}PATH" for prefix, names in HEEDED.items() if name in names)
                raise JaxalignError(
                    f"--{name.replace('_', '-')} is about data sets {about}; got {dataset or 'none'}"
                )


_KEYS = ("image_key", "label_key", "text_key")
# What is heeded of a `DataReading`, by the beginning of a data set's name.
HEEDED: dict[str, tuple[str, ...]] = {
    FEATURES: ("features_key", "labels", "label_key", "label_names", "ids", "id_key"),
    TFDS: _KEYS,
    WEBDATASET: _KEYS,
    HUGGINGFACE: _KEYS,
}
