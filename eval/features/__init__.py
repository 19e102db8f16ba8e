"""Features of data sets, computed once: a resumable store of what the towers give before their projectors."""

from jaxalign.eval.files import default_store as default_store

from .by_content import Gathered as Gathered
from .embed import Images as Images
from .embed import embed_images as embed_images
from .embed import embed_texts as embed_texts
from .key import FeatureKey as FeatureKey
from .key import make_key as make_key
from .obtain import are_stored as are_stored
from .obtain import image_features as image_features
from .obtain import image_store as image_store
from .obtain import text_store as text_store
from .store import Features as Features
from .store import FeatureStore as FeatureStore
