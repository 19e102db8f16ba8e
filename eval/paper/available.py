"""Which models the backbones of tables are, what of a table can be measured here, and how to get the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec as find_spec_of
from pathlib import Path

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.availability import find_dataset_copy, find_model
from jaxalign.eval.datasets import DatasetRecord
from jaxalign.eval.datasets.records import Folder
from jaxalign.specs import find_spec
from jaxalign.weights.checkpoint import is_model_folder

from .cells import Cell

_SIGLIP, _SIGLIP_2 = (
    tuple(f"{name}{source}" for source in ("", "-open-clip", "-big-vision"))
    for name in ("siglip-base-patch16-224", "siglip2-base-patch16-224")
)
_DINO_3 = ("dinov3-large-patch16", "dinov3-large-patch16-256")

# Weights by preference: as the code that a paper published loads them first, then the same in other code.
BACKBONES: Mapping[str, tuple[str, ...]] = {
    # IsoCLIP
    "ViT-B/32": ("clip-vit-base-patch32",),
    "ViT-B/16": ("clip-vit-base-patch16",),
    "ViT-L/14": ("clip-vit-large-patch14",),
    "ViT-B/32-open": ("clip-vit-base-patch32-datacomp",),
    "ViT-B/16-open": ("clip-vit-base-patch16-datacomp",),
    "PE-Core-B-16": ("pe-core-base-patch16",),
    "PE-Core B/16": ("pe-core-base-patch16",),
    "EVA-02 B/16": ("eva02-clip-base-patch16",),
    "SigLIP2 B/16": (_SIGLIP_2[1], _SIGLIP_2[0], _SIGLIP_2[2]),
    "DINOv2 B/14": ("dinov2-base-meta", "dinov2-base"),
    # Reevaluating
    "CLIP B/32": ("clip-vit-base-patch32",),
    "CLIP L/14": ("clip-vit-large-patch14",),
    "CLIP ViT-L/14": ("clip-vit-large-patch14",),
    "CLIP ViT-B/16": ("clip-vit-base-patch16",),
    "CLIP": ("clip-vit-base-patch16",),
    "rn50": ("clip-rn50",),
    "SigLIP B/16": _SIGLIP,
    "SigLIP": _SIGLIP,
    "SigLIP2": _SIGLIP_2,
    "SLIP B/16": ("slip-vit-base-patch16",),
    "DINOv2": ("dinov2-base-meta", "dinov2-base"),
    "DINOv2 ViT-B/14": ("dinov2-base", "dinov2-base-meta"),
    "DINOv3 L/16": _DINO_3,
    "DINOv3 ViT-L/16": _DINO_3,
    "dinov3_vitl16": _DINO_3,
}
# What both papers print, and Reevaluating loads through transformers.
OF_REEVALUATING: Mapping[str, tuple[str, ...]] = {"SigLIP2 B/16": _SIGLIP_2}
# With registers, which the paper does not say.
OF_REFERENCE: Mapping[str, tuple[str, ...]] = {
    "DINOv2": ("dinov2-with-registers-base-meta", "dinov2-with-registers-base")
}
_PACKAGES = {"tsne": ("sklearn", "scikit-learn"), "umap": ("umap", "umap-learn")}  # of views: module, name


@dataclass(frozen=True)
class Missing:
    """`what` cannot be measured before one has done what `advice` says."""

    what: str
    advice: str


@dataclass(frozen=True)
class Places:
    """Where models are looked for.

    Attributes:
      weights: a path by backbone, as printed or by the name of `jaxalign models`.
      download: whether models that are not here are fetched from the hub.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    download: bool = False

    def __post_init__(self) -> None:
        for name, path in self.weights.items():
            if not candidates(name):
                raise unknown_name("backbone", name, BACKBONES)
            if not Path(path).expanduser().exists():
                raise JaxalignError(f"there is no file or folder {path}, the weights of {name}")

    def find_weights(
        self, backbone: str, paper: str = "", variant: str = "paper"
    ) -> tuple[str, str | None] | Missing:
        """What `jaxalign.load` takes for a backbone, and its spec where the file does not say it.

        `paper`, `variant`: as for `candidates`.
        """
        names = candidates(backbone, paper, variant)
        for name in (backbone, *names):
            if name in self.weights:
                return _local(self.weights[name], names[0])
        if Path(backbone).expanduser().exists():
            return backbone, None
        found = [(name, find_model(find_spec(name))) for name in names]
        usable = [name for name, copy in found if copy.is_local]
        usable += [name for name, copy in found if self.download and copy.state == "hub"]
        if usable:
            return usable[0], None
        if not found:
            raise unknown_name("backbone", backbone, BACKBONES, "a folder with a model is a backbone, too")
        name, copy = found[0]
        spec = find_spec(name)
        advice = f"pass --download, or --weights '{backbone}=PATH' with {spec.source}"
        if copy.state != "hub":
            advice = f"download {spec.source} and pass --weights '{backbone}=PATH'"
        return Missing(f"model {name}", advice)


def missing_dataset(record: DatasetRecord, data_dir: Folder) -> Missing | None:
    """What a data set lacks, the optional splits of its protocol included; None where it is prepared, or can
    be."""
    used = {part for use in (record.query, record.gallery, record.train) for part in use.split("+")}
    copy = find_dataset_copy(record, data_dir, optional=bool(used & set(record.optional_splits)))
    return Missing(f"data set {record.name}", copy.advice) if copy.state == "missing" else None


def missing_packages(cell: Cell) -> list[Missing]:
    """What a cell's view needs beside this package."""
    package = _PACKAGES.get(cell.settings.get("view", ""))
    if package is None or find_spec_of(package[0]) is not None:
        return []
    return [Missing(f"package {package[1]}", "pip install 'jaxalign[plots]'")]


def candidates(backbone: str, paper: str = "", variant: str = "paper") -> tuple[str, ...]:
    """Names of `jaxalign models` that a backbone may be, the preferred one first; none for an unknown one.

    `paper`: "isoclip" or "reevaluating", where a table is one of theirs.
    """
    if paper == "reevaluating" and backbone in OF_REEVALUATING:
        return OF_REEVALUATING[backbone]
    if variant == "reference" and backbone in OF_REFERENCE:
        return OF_REFERENCE[backbone]
    if backbone in BACKBONES:
        return BACKBONES[backbone]
    try:
        return (find_spec(backbone).name,)
    except JaxalignError:
        return ()


def _local(path: str, name: str) -> tuple[str, str | None]:
    """A folder of ours holds its own facts; of anything else one says what it is."""
    own = is_model_folder(Path(path).expanduser())
    return path, None if own else name
