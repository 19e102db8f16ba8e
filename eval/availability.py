"""What of a model or a data set is on this machine, and what to do about the rest."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jaxalign.specs import MODELS, ModelSpec

if TYPE_CHECKING:
    from jaxalign.eval.datasets.records import DatasetRecord, Folder


@dataclass(frozen=True)
class Availability:
    """Attributes:
    state: of a model: `embedded` in the package, `cached` in the hub's cache, on the `hub`, or a `file` to
      fetch; of a data set: `prepared`, `ready` to be prepared, or `missing` its sources.
    folder: where it is, or where a data set would be prepared.
    advice: what to do; empty where nothing is.
    """

    state: Literal["embedded", "cached", "hub", "file", "prepared", "ready", "missing"]
    folder: Path | None
    advice: str = ""

    @property
    def is_local(self) -> bool:
        return self.state in ("embedded", "cached", "prepared")


def find_model(spec: ModelSpec) -> Availability:
    """Where the weights of `spec` are. Looks at the package and the hub's cache, and not into the network."""
    folder = Path(str(files("jaxalign"))) / "embedded" / spec.name
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


def find_dataset_copy(
    record: "DatasetRecord", data_dir: "Folder", source_dir: "Folder" = None, *, optional: bool = False
) -> Availability:
    """Where the prepared copy of a data set is, or what its preparation lacks: with `optional` also what it
    can be done without."""
    from jaxalign.eval.datasets import source_root

    folder = record.folder(data_dir)
    if record.is_prepared(data_dir):
        return Availability("prepared", folder)
    if record.in_place:
        return Availability("missing", folder, f"prepare {record.tfds} with TFDS: {folder}")
    sources = source_root(data_dir, source_dir)
    missing = [source for source in record.missing_sources(sources) if source.required or optional]
    if not missing:
        return Availability("ready", folder, "prepared when it is first used")
    wanted = "; ".join(source.told(sources) for source in missing)
    return Availability("missing", folder, f"put there: {wanted}")
