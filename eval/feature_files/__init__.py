"""Features that somebody has already, as a data set: `features:PATH`. Nothing is copied, nothing executed."""

from jaxalign.eval.datasets.feature_reading import FEATURES as FEATURES
from jaxalign.eval.datasets.feature_reading import FeatureReading as FeatureReading

from .columns import check_rows as check_rows
from .columns import read_features as read_features
from .record import features_record as features_record
from .splits import digest as digest
