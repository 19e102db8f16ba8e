"""Data sets as TFDS builders: `prepare` once, then `load_split`; neither imports TensorFlow."""

from .examples import Examples as Examples
from .examples import load_split as load_split
from .preparation import prepare as prepare
from .records import DATASETS as DATASETS
from .records import DatasetRecord as DatasetRecord
from .records import data_root as data_root
from .records import find_dataset as find_dataset
