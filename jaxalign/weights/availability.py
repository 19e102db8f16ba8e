"""Which models are on this machine, and what to do about the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxalign.specs import MODELS, ModelSpec

EMBEDDED = Path(__file__).parents[1] / "embedded"


@dataclass(frozen=True)
class Availability:
    """Attributes:
    state: `embedded` in the package, `cached` in the hub's cache, on the `hub`, or a `file` to fetch.
    folder: where it is.
    advice: what to do; empty where nothing is.
    """

    state: Literal["embedded", "cached", "hub", "file"]
    folder: Path | None
    advice: str = ""

    @property
    def is_local(self) -> bool:
        return self.state in ("embedded", "cached")


def find_model(spec: ModelSpec) -> Availability:
    """Where the weights of `spec` are. Looks at the package and the hub's cache, and not into the network."""
    folder = EMBEDDED / spec.name
    if spec.name in MODELS and folder.is_dir():  # other names may be anything, paths too
        return Availability("embedded", folder)
    cached = _find_cached(spec)
    if cached is not None:
        return Availability("cached", cached)
    if spec.hub_ids:
        return Availability(
            "hub",
            None,
            f'jaxalign.load("{spec.name}") downloads it; without network, put the files of'
            f" https://huggingface.co/{spec.hub_ids[0]} into a folder and load that",
        )
    return Availability("file", None, f"download {spec.source} and load that file")


BEGIN_WITH = "clip-vit-base-patch16"  # small, and the paper's gain is large


def first_cached() -> ModelSpec | None:
    """The model to take where nobody names one: `BEGIN_WITH`, others with a band of the paper, others with
    texts, the rest; each in the order of `MODELS`. None where none is in the hub's cache."""
    order = sorted(
        MODELS.values(), key=lambda spec: (spec.name != BEGIN_WITH, not spec.band, spec.towers.text is None)
    )
    return next((spec for spec in order if find_model(spec).state == "cached"), None)


def _find_cached(spec: ModelSpec) -> Path | None:
    """The snapshot in the hub's cache that `jaxalign.load` would read, if it holds weights."""
    from huggingface_hub import try_to_load_from_cache

    from jaxalign.weights.hub import OPEN_CLIP_WEIGHTS, WEIGHTS

    for repository in spec.hub_ids[:1]:
        for name in (*OPEN_CLIP_WEIGHTS, *WEIGHTS):
            found = try_to_load_from_cache(repository, name, revision=spec.revision)
            if isinstance(found, str):
                return Path(found).parent
    return None
