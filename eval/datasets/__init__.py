"""Data sets as TFDS builders: `prepare` once, then `load_split`; neither imports TensorFlow."""

from .catalogue import DATASETS as DATASETS
from .examples import Examples as Examples
from .loading import find_dataset as find_dataset
from .loading import load_split as load_split
from .loading import prepare as prepare
from .prompts import fill_template as fill_template
from .prompts import imagenet_class_names as imagenet_class_names
from .records import DatasetRecord as DatasetRecord
from .records import Source as Source
from .records import data_root as data_root
from .records import source_root as source_root
