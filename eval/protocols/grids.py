"""Hyper-parameters that few-shot classifiers try on validation pictures: our values, the published ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

DEFAULT, PUBLISHED = "default", "published"


@dataclass(frozen=True, eq=False)
class Grid:
    """What is tried.

    Attributes:
      name: "default", "published", or "published:NAME" where the published values are those for a data set.
      axes: values by hyper-parameter, ascending.
      ties: among equal accuracies the smallest value of the first of these is chosen, then of the second.
      rounds: how often it is searched: each time after the first as many values from half the best one to
        one and a half of it.
    """

    name: str
    axes: Mapping[str, np.ndarray]
    ties: tuple[str, ...] = ("alpha", "gamma", "beta")
    rounds: int = 1

    def around(self, best: Mapping[str, float]) -> Mapping[str, np.ndarray]:
        """The axes of the next round."""
        return {name: steps(best[name] / 2, 1.5 * best[name], len(axis)) for name, axis in self.axes.items()}


def steps(low: float, high: float, count: int) -> np.ndarray:
    """`count` values from `low` on, `high` not among them, as all of the published codes have it."""
    return np.arange(count) * (high - low) / count + low


DEFAULTS: Mapping[str, Mapping[str, np.ndarray]] = {
    "prototype": {"alpha": np.linspace(0, 1, 21)},
    "lda": {"alpha": np.linspace(0, 1, 21)},
    "tip-adapter": {"alpha": np.linspace(0.1, 3, 20), "beta": np.linspace(0.1, 7, 20)},
    "tip-x": {
        "alpha": np.linspace(0.1, 5, 8),
        "beta": np.linspace(0.1, 12, 8),
        "gamma": np.linspace(0.1, 30, 10),
    },
    "ape": {
        "alpha": np.linspace(0.1, 3, 10),
        "beta": np.linspace(1, 12, 10),
        "gamma": np.linspace(0, 1.5, 4),
    },
    "coder": {"alpha": np.linspace(0.1, 5, 12), "beta": np.linspace(1, 200, 16)},
}

# configs/*.yaml of https://github.com/gaopengcuhk/Tip-Adapter: `search_scale`, ends of beta and alpha.
_TIP_ADAPTER = {
    "caltech101": (12, 5),
    "dtd": (13, 13),
    "eurosat": (12, 10),
    "aircraft": (30, 30),
    "food101": (10, 10),
    "imagenet": (7, 3),
    "flowers102": (50, 50),
    "pets": (7, 3),
    "cars": (20, 10),
    "sun397": (12, 10),
    "ucf101": (7, 3),
}
# configs/*.yaml of https://github.com/yangyangyang127/APE: ends of beta, alpha and gamma, and steps of gamma.
_APE = dict.fromkeys(("caltech101", "dtd", "food101", "flowers102", "pets"), (7, 7, 1, 20)) | {
    "eurosat": (30, 5, 1.5, 20),
    "aircraft": (20, 10, 1, 20),
    "imagenet": (7, 7, 0.5, 5),
    "cars": (10, 7, 1, 20),
    "sun397": (10, 7, 1, 20),
    "ucf101": (10, 7, 1.5, 20),
}
# There, too, for the embeddings of ResNet-50: `training_free_feat_num` and `w_training_free[0]`.
APE_WIDTH = 1024
_APE_OPTIONS = {
    "caltech101": (800, 0.5),
    "dtd": (400, 0.5),
    "eurosat": (700, 0.9),
    "aircraft": (800, 0.1),
    "food101": (700, 0.3),
    "imagenet": (500, 0.7),
    "flowers102": (700, 0.4),
    "pets": (800, 0.7),
    "cars": (500, 0.6),
    "sun397": (800, 0.7),
    "ucf101": (700, 0.3),
}
APE_OPTIONS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {name: {"channels": kept, "similarity_weight": weight} for name, (kept, weight) in _APE_OPTIONS.items()}
)


def _tip_adapter(dataset: str) -> Grid:
    beta, alpha = _TIP_ADAPTER[dataset]
    axes = {"alpha": steps(0.1, alpha, 20), "beta": steps(0.1, beta, 200)}
    return Grid(f"{PUBLISHED}:{dataset}", axes, ("beta", "alpha"))


def _ape(dataset: str) -> Grid:
    beta, alpha, gamma, count = _APE[dataset]
    axes = {"alpha": steps(0.1, alpha, 20), "beta": steps(0.1, beta, 200), "gamma": steps(0, gamma, count)}
    return Grid(f"{PUBLISHED}:{dataset}", axes, ("beta", "alpha", "gamma"))


# main_few_shots.py of https://github.com/mrflogs/ICLR24 adds a x LDA to 100 x zero-shot.
_LDA_WEIGHTS = np.array([0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0])
_FOR_ALL: Mapping[str, Grid] = {
    "lda": Grid(PUBLISHED, {"alpha": _LDA_WEIGHTS / (100 + _LDA_WEIGHTS)}),
    # tipx.py of https://github.com/vishaal27/SuS-X
    "tip-x": Grid(
        PUBLISHED,
        {"alpha": steps(0.1, 50, 20), "beta": steps(1, 50, 200), "gamma": steps(0.1, 30, 50)},
        ("alpha", "beta", "gamma"),
    ),
    # classify_few_shot.py of https://github.com/YCaigogogo/CVPR24-CODER
    "coder": Grid(
        PUBLISHED, {"alpha": steps(0.1, 20, 50), "beta": steps(0.1, 200, 500)}, ("beta", "alpha"), rounds=3
    ),
}
_BY_DATASET = {"tip-adapter": (_TIP_ADAPTER, _tip_adapter), "ape": (_APE, _ape)}
TUNED_AS_PUBLISHED = (*_BY_DATASET, *_FOR_ALL)


def find_grid(name: str, classifier: str, dataset: str = "") -> Grid:
    """The grid of a few-shot classifier.

    Args:
      name: "default", "published", or "published:NAME" for the published values of another data set than
        `dataset`.
      classifier: of `DEFAULTS`.
      dataset: that is classified. Of "tip-adapter" and "ape" the published values depend on it.

    Raises:
      JaxalignError: an unknown name, a classifier without published values, or none for the data set.
    """
    if name == DEFAULT:
        return Grid(DEFAULT, DEFAULTS[classifier])
    kind, _, other = name.partition(":")
    if kind != PUBLISHED:
        raise unknown_name("grid", name, (DEFAULT, PUBLISHED), f"{PUBLISHED}:NAME is that for a data set")
    if other and other not in _TIP_ADAPTER:
        raise unknown_name("data set with a published grid", other, _TIP_ADAPTER)
    if classifier in _FOR_ALL:
        return _FOR_ALL[classifier]
    if classifier not in _BY_DATASET:
        raise JaxalignError(
            f"{classifier} has no published grid; expected {', '.join(TUNED_AS_PUBLISHED)}, or the grid"
            f" {DEFAULT}"
        )
    known, make = _BY_DATASET[classifier]
    own = other or dataset.removesuffix("@tfds")
    if own not in known:
        raise JaxalignError(
            f"the published grid of {classifier} depends on the data set, and there is none for"
            f" {own or 'this one'}; say whose to take, {PUBLISHED}:NAME with one of {', '.join(known)}"
        )
    return make(own)
