"""Data sets as TFDS builders: `prepare` once, then `load_split`; neither imports TensorFlow."""

from .catalogue import DATASETS as DATASETS
from .data_reading import DataReading as DataReading
from .data_reading import Keys as Keys
from .data_reading import own_record as own_record
from .examples import Examples as Examples
from .images import Images as Images
from .loading import find_dataset as find_dataset
from .loading import known_datasets as known_datasets
from .loading import load_split as load_split
from .loading import prepare as prepare
from .loading import register_dataset as register_dataset
from .prompts import fill_template as fill_template
from .prompts import imagenet_class_names as imagenet_class_names
from .records import DatasetRecord as DatasetRecord
from .records import Source as Source
from .records import data_root as data_root
from .records import source_root as source_root
