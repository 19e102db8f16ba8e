"""How features that are there already are read as a data set; `jaxalign.eval.feature_files` reads them."""

from dataclasses import dataclass

FEATURES = "features:"


@dataclass(frozen=True)
class FeatureReading:
    """What the files of a data set `features:PATH` are read as; empty takes what cannot be meant otherwise.

    Attributes:
      features_key: key of the features; of one column for each number, what the columns begin with.
      labels: file of the labels, `train=FILE,test=FILE` of several splits, or `folders` for the folder that
        each id lies in; by default the features' own file.
      label_key: key or column of the labels.
      label_names: file of the classes' names, one for each number from 0 on.
      ids: file of the ids, as for `labels`.
      id_key: key or column of the ids.
    """

    features_key: str = ""
    labels: str = ""
    label_key: str = ""
    label_names: str = ""
    ids: str = ""
    id_key: str = ""
