"""Classifiers on frozen features, fitted in closed form: class-name texts, class means, Gaussians, caches.

A method is a function that fits and returns a `Classifier`, a frozen pytree that is called on features.
"""

from .base import Classifier as Classifier
from .base import LinearClassifier as LinearClassifier
from .base import check_class_labels as check_class_labels
from .cache import CacheClassifier as CacheClassifier
from .cache import coder as coder
from .cache import tip_adapter as tip_adapter
from .few_shot import FEW_SHOT as FEW_SHOT
from .few_shot import FewShotAccuracy as FewShotAccuracy
from .few_shot import few_shot_accuracy as few_shot_accuracy
from .few_shot import find_grid as find_grid
from .few_shot import sample_shots as sample_shots
from .lda import lda_classifier as lda_classifier
from .means import ensemble_text_weights as ensemble_text_weights
from .means import ncm_classifier as ncm_classifier
from .means import prototype_classifier as prototype_classifier
from .means import zero_shot_classifier as zero_shot_classifier
from .method import FewShotMethod as FewShotMethod
from .method import Grid as Grid
from .refinement import ape as ape
from .search import HyperparameterSearch as HyperparameterSearch
from .search import search_grid as search_grid
from .search import search_hyperparameters as search_hyperparameters
from .signatures import tip_x as tip_x
