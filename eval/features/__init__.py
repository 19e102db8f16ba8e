"""Features of data sets, computed once: a resumable store of what the towers give before their projectors."""

from .key import FeatureKey as FeatureKey
from .store import Features as Features
from .store import FeatureStore as FeatureStore
