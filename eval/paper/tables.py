"""The papers' tables and figures: one record each, which says how its cells are measured."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.local_files import read_limited

_TABLE_LIMIT = 16 << 20  # bytes of a table of one's own
FEW_SHOT_DATASETS = (
    *("imagenet", "caltech101", "pets", "cars", "flowers102", "food101", "aircraft"),
    *("sun397", "dtd", "eurosat", "ucf101"),
)


@dataclass(frozen=True)
class Table:
    """A printed table, or the numbers behind a figure, which mostly are not printed.

    Attributes:
      name: what `jaxalign reproduce` is called with.
      title: where it is printed, and what it shows.
      file: a CSV with a row for each number: in `eval/paper_tables`, or a path.
      unit: of the numbers.
      settings: of every cell, unless a column says otherwise.
      columns: the columns that hold numbers, with the settings that each of them means.
      datasets: what a number is the mean over, where the table has no column for it.
      digits: behind the point, as printed.
      paper: "isoclip" or "reevaluating", whose published code the variant "reference" is then about; empty
        for a table of one's own.
      notes: what is to be known of some of the cells: their labels, and the text.
    """

    name: str
    title: str
    file: str
    unit: str
    settings: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"value": {}})
    datasets: tuple[str, ...] = ()
    digits: int = 1
    paper: str = ""
    notes: tuple[tuple[Mapping[str, str], str], ...] = ()

    def rows(self) -> list[dict[str, str]]:
        """The rows of the file as text; raises JaxalignError for one that is no such table."""
        path = Path(self.file)
        shipped = files("jaxalign.eval").joinpath("paper_tables", self.file)
        try:
            own = path.is_absolute()
            content = read_limited(path, _TABLE_LIMIT) if own else shipped.read_bytes()
            reader = csv.DictReader(content.decode("utf-8-sig").splitlines())
            rows = list(reader)
        except (OSError, ValueError, csv.Error) as error:
            raise JaxalignError(f"the table {self.file} cannot be read: {error}") from error
        if not rows:
            raise JaxalignError(f"the table {self.file} is empty; expected one row for each number")
        absent = [name for name in self.columns if name not in (reader.fieldnames or ())]
        if absent:
            raise JaxalignError(
                f"the table {self.file} has no column {', '.join(absent)}; expected the numbers there"
            )
        if any(None in row or None in row.values() for row in rows):
            raise JaxalignError(
                f"a row of the table {self.file} has more or fewer columns than the first one"
            )
        return rows


Measured = tuple[str, Mapping[str, Any]]  # the unit of the numbers, and the settings of every cell
_IMAGES = "mAP, %", {"protocol": "image-retrieval", "distractors": True}
_REEVALUATED = "mAP, %", {"protocol": "image-retrieval"}
_CHANGE = {"protocol": "image-retrieval", "dataset": "bdd100k", "method": "pca", "minus": "image-image"}
_TEXTS = "mAP, %", {"protocol": "text-retrieval"}
_OVI = "mAP, %", _TEXTS[1] | {"method": "ovi", "dataset": "flickr30k-captions", "split": "val"}
_TEXT_IMAGE = "mAP and recall at 1, %", {"protocol": "text-image"}
_PERCENT, _FEW_SHOT = "accuracy, %", {"protocol": "few-shot"}
_SPECTRUM, _PARTS, _BANDS = ({"protocol": name} for name in ("spectrum", "spectral-parts", "band-selection"))
_SEARCH = "mAP in %, singular directions left out", _BANDS
_TEXT_SEARCH = _SEARCH[0], _BANDS | {"modality": "text"}
_DOGS_CATS = {"protocol": "dogs-cats", "dataset": "dogs-vs-cats"}
_OVERLAP = "intersection over union", _DOGS_CATS | {"metric": "iou"}
_BY_CLASS = "overlap, IoU and mean cosines", {"protocol": "class-indicator"}
_BOTH = "overlap, IoU, gap and mean cosines"  # by class and by modality
_IMAGENET = {"dataset": "imagenet", "split": "val"}
_GAP = "overlap, gap and mean cosines", {"protocol": "modality-indicator"} | _IMAGENET
_VIEW = "distance of the centroids of images and projected images", {"protocol": "view"} | _IMAGENET
_RECOVERY = "error of a cosine", {"protocol": "degrees-of-freedom"} | _IMAGENET
_TABLE_1 = {
    "retrieval_text_image_map": {"metric": "text_image_mAP"},
    "retrieval_image_image_map": {"metric": "image_image_mAP"},
    "zero_shot_accuracy": {"metric": "zero_shot_accuracy"},
    "one_shot_accuracy": {"metric": "few_shot_accuracy.1"},
    "sixteen_shot_accuracy": {"metric": "few_shot_accuracy.16"},
}
_ONE_SHOT_LDA = (
    {"classifier": "LDA", "inputs": "with text", "shots": "1"},
    "one-shot LDA with texts is zero-shot accuracy: one example of a class has no covariance, so the texts"
    " alone decide, by the formula and by the published code on a CPU; the supplement prints chance",
)


def _printed(
    paper: str, where: str, what: str, file: str, measured: Measured, name: str = "", **rest: Any
) -> Table:
    """What stands as `table S5` is called `PAPER-tableS5`, and its file `PAPER_tableS5_FILE.csv`; what has
    another `name` says its file whole."""
    short, number = paper.lower(), re.sub("[ .]", "", where)
    stem = file if name else f"{number}_{file}"
    names = f"{short}-{name or number}", f"{paper}, {where}: {what}", f"{short}_{stem}.csv"
    return Table(*names, *measured, paper=short, **rest)


_isoclip, _reevaluating = partial(_printed, "IsoCLIP"), partial(_printed, "Reevaluating")
_RECORDS = (
    _isoclip("table 1", "image-to-image retrieval", "image_retrieval_map", _IMAGES),
    _isoclip("table 2", "text-to-text retrieval", "text_retrieval_map", _TEXTS),
    _isoclip("table 3", "classification", "classification_accuracy", (_PERCENT, {})),
    _isoclip("table 4", "ablations of the image projector", "ablations_map", _IMAGES),
    _isoclip("figure 2", "spectra of the inter-modal operator", "spectra", ("singular values", _SPECTRUM)),
    _isoclip(
        "figure 3",
        "what the top, the middle and the bottom carry (captions: our choice)",
        "spectral_parts",
        ("mAP in %, mean cosines", _PARTS),
    ),
    _isoclip(
        "figure 4", "overlap of dog-dog and dog-cat similarities", "dogs_vs_cats_iou", _OVERLAP, digits=3
    ),
    _isoclip("figure 5", "search for the bands of ViT-B/16", "band_search", _SEARCH),
    _isoclip(
        "table S5",
        "pseudo-patches of OVI on Flickr30k's validation split",
        "ovi_pseudo_patches_flickr30k_val_map",
        _OVI,
    ),
    _isoclip("table S6", "image-to-image retrieval", "image_retrieval_map", _IMAGES),
    _isoclip("table S7", "classification", "classification_accuracy", (_PERCENT, {})),
    _isoclip("table S8", "Places365 and iNaturalist", "places_inat_map", _IMAGES, digits=2),
    _isoclip("table S9", "ablations of the image projector", "ablations_map", _IMAGES),
    _isoclip(
        "table S10",
        "bands selected on Caltech101 and COCO",
        "selected_bands",
        ("singular directions left out", _BANDS),
        columns={"k_top": {"metric": "best.k_top"}, "k_bottom": {"metric": "best.k_bottom"}},
        digits=0,
    ),
    _isoclip("section F.3", "DINOv2 for comparison", "dinov2_map", _IMAGES),
    _isoclip(
        "figure S6",
        "share of the ten largest eigenvalues of the intra-modal operator",
        "intra_modal_spectra",
        ("share", _SPECTRUM),
        digits=3,
    ),
    _isoclip("figure S7", "similarities by class on CUB", "similarities_by_class", _BY_CLASS, digits=3),
    _isoclip("figure S8", "the middle grown to either end, on CUB", "grown_middle", ("mAP, %", _PARTS)),
    _isoclip("figure S9", "bands on the data sets of captions", "band_search_text", _TEXT_SEARCH),
    _isoclip("figure S10", "bands on the data sets of images that have labels", "band_search", _SEARCH),
    _isoclip(
        "section H",
        "texts find images, by IsoCLIP's projectors and the original ones (data sets: our choice)",
        "text_image",
        _TEXT_IMAGE,
    ),
    _reevaluating(
        "table 1", "dogs and cats", "dogs_vs_cats", ("mAP and accuracy, %", _DOGS_CATS), columns=_TABLE_1
    ),
    _reevaluating(
        "table 2",
        "few-shot classification without texts, mean over eleven data sets",
        "image_only_few_shot_accuracy",
        (_PERCENT, _FEW_SHOT | {"with_text": False}),
        datasets=FEW_SHOT_DATASETS,
    ),
    _reevaluating("table 3", "image-to-image retrieval", "image_retrieval_map", _REEVALUATED),
    _reevaluating(
        "figure 2",
        "similarities of dogs and cats, by class and by modality",
        "similarities",
        (_BOTH, {"dataset": "dogs-vs-cats"}),
        digits=3,
    ),
    _reevaluating(
        "figure 5",
        "similarities on ImageNet, by class and by modality",
        "similarities",
        (_BOTH, _IMAGENET),
        digits=3,
    ),
    _reevaluating(
        "figure 6",
        "few-shot adaptation of ResNet-50, mean over eleven data sets",
        "figure6_methods",
        (_PERCENT, _FEW_SHOT | {"with_text": True, "tuned_as_published": True}),
        name="figure6-methods",
        datasets=FEW_SHOT_DATASETS,
    ),
    _reevaluating(
        "figure 6 and supplement",
        "few-shot classification with and without texts, for each data set",
        "supplement_few_shot_per_dataset_accuracy",
        (_PERCENT, _FEW_SHOT),
        name="figure6",
        digits=2,
        notes=(_ONE_SHOT_LDA,),
    ),
    _reevaluating(
        "section 4.4",
        "what PCA<- does to weather and time of day",
        "bdd100k_ablation_map_change",
        ("change of mAP, percentage points", _CHANGE),
        name="bdd100k",
        columns={"pca_minus_original_map": {}},
    ),
    _reevaluating("figure 7", "views of texts, images and projected images", "views", _VIEW, digits=3),
    _reevaluating(
        "figure 8",
        "the gap before and after PCA<-, without and with the mean",
        "modality_gap",
        _GAP,
        digits=3,
    ),
    _reevaluating(
        "appendix A", "similarities of images out of those to texts", "recovery", _RECOVERY, digits=6
    ),
)
TABLES: Mapping[str, Table] = MappingProxyType({table.name: table for table in _RECORDS})


def find_table(name: str) -> Table:
    """The table of a name, upper or lower case, or of a CSV file of one's own (README of
    `eval/paper_tables`); raises JaxalignError for a name that none has, or a file that is not there."""
    if name.lower().endswith(".csv"):
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise JaxalignError(f"there is no file {name}; expected a table as CSV, or a name of `--list`")
        return Table(path.stem, f"the table {path.name}", str(path), "as in the table", {}, digits=2)
    for known, table in TABLES.items():
        if known.lower() == name.lower():
            return table
    raise unknown_name("table", name, TABLES, "a table of one's own is a path that ends in .csv")
