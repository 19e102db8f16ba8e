"""The papers' tables and figures: one record each, which says how its cells are measured."""

import csv
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


_IMAGES = {"protocol": "image-retrieval", "distractors": True}
_REEVALUATED = {"protocol": "image-retrieval"}
_TEXTS = {"protocol": "text-retrieval"}
_FEW_SHOT = {"protocol": "few-shot"}
_PARTS, _BANDS = {"protocol": "spectral-parts"}, {"protocol": "band-selection"}
_IMAGENET = {"dataset": "imagenet", "split": "val"}
_MAP, _PERCENT = "mAP, %", "accuracy, %"
_ONE_SHOT_LDA = (
    {"classifier": "LDA", "inputs": "with text", "shots": "1"},
    "one-shot LDA with texts is zero-shot accuracy: one example of a class has no covariance, so the texts"
    " alone decide, by the formula and by the published code on a CPU; the supplement prints chance",
)


def _of(paper: str, number: str, what: str, file: str, *unit_and_settings: Any, **rest: Any) -> Table:
    name = paper.lower()
    names = f"{name}-{number}", f"{paper}, {what}", f"{name}_{file}.csv"
    return Table(*names, *unit_and_settings, paper=name, **rest)


_isoclip, _reevaluating = partial(_of, "IsoCLIP"), partial(_of, "Reevaluating")
_RECORDS = (
    _isoclip("table1", "table 1: image-to-image retrieval", "table1_image_retrieval_map", _MAP, _IMAGES),
    _isoclip("table2", "table 2: text-to-text retrieval", "table2_text_retrieval_map", _MAP, _TEXTS),
    _isoclip("table3", "table 3: classification", "table3_classification_accuracy", _PERCENT, {}),
    _isoclip("table4", "table 4: ablations of the image projector", "table4_ablations_map", _MAP, _IMAGES),
    _isoclip(
        "figure2",
        "figure 2: spectra of the inter-modal operator",
        "figure2_spectra",
        "singular values",
        {"protocol": "spectrum"},
    ),
    _isoclip(
        "figure3",
        "figure 3: what the top, the middle and the bottom carry (captions: our choice)",
        "figure3_spectral_parts",
        "mAP in %, mean cosines",
        _PARTS,
    ),
    _isoclip(
        "figure4",
        "figure 4: overlap of dog-dog and dog-cat similarities",
        "figure4_dogs_vs_cats_iou",
        "intersection over union",
        {"protocol": "dogs-cats", "dataset": "dogs-vs-cats", "metric": "iou"},
        digits=3,
    ),
    _isoclip(
        "figure5",
        "figure 5: search for the bands of ViT-B/16",
        "figure5_band_search",
        "mAP in %, singular directions left out",
        _BANDS,
    ),
    _isoclip(
        "tableS5",
        "table S5: pseudo-patches of OVI on Flickr30k's validation split",
        "tableS5_ovi_pseudo_patches_flickr30k_val_map",
        _MAP,
        _TEXTS | {"method": "ovi", "dataset": "flickr30k-captions", "split": "val"},
    ),
    _isoclip("tableS6", "table S6: image-to-image retrieval", "tableS6_image_retrieval_map", _MAP, _IMAGES),
    _isoclip("tableS7", "table S7: classification", "tableS7_classification_accuracy", _PERCENT, {}),
    _isoclip(
        "tableS8", "table S8: Places365 and iNaturalist", "tableS8_places_inat_map", _MAP, _IMAGES, digits=2
    ),
    _isoclip("tableS9", "table S9: ablations of the image projector", "tableS9_ablations_map", _MAP, _IMAGES),
    _isoclip(
        "tableS10",
        "table S10: bands selected on Caltech101 and COCO",
        "tableS10_selected_bands",
        "singular directions left out",
        {"protocol": "band-selection"},
        columns={"k_top": {"metric": "best.k_top"}, "k_bottom": {"metric": "best.k_bottom"}},
        digits=0,
    ),
    _isoclip("sectionF3", "section F.3: DINOv2 for comparison", "sectionF3_dinov2_map", _MAP, _IMAGES),
    _isoclip(
        "figureS6",
        "figure S6: share of the ten largest eigenvalues of the intra-modal operator",
        "figureS6_intra_modal_spectra",
        "share",
        {"protocol": "spectrum"},
        digits=3,
    ),
    _isoclip(
        "figureS7",
        "figure S7: similarities by class on CUB",
        "figureS7_similarities_by_class",
        "overlap, IoU and mean cosines",
        {"protocol": "class-indicator"},
        digits=3,
    ),
    _isoclip(
        "figureS8",
        "figure S8: the middle grown to either end, on CUB",
        "figureS8_grown_middle",
        _MAP,
        _PARTS,
    ),
    _isoclip(
        "figureS9",
        "figure S9: bands on the data sets of captions",
        "figureS9_band_search_text",
        "mAP in %, singular directions left out",
        _BANDS | {"modality": "text"},
    ),
    _isoclip(
        "figureS10",
        "figure S10: bands on the data sets of images that have labels",
        "figureS10_band_search",
        "mAP in %, singular directions left out",
        _BANDS,
    ),
    _isoclip(
        "sectionH",
        "section H: texts find images, by IsoCLIP's projectors and the original ones (data sets: our choice)",
        "sectionH_text_image",
        "mAP and recall at 1, %",
        {"protocol": "text-image"},
    ),
    _reevaluating(
        "table1",
        "table 1: dogs and cats",
        "table1_dogs_vs_cats",
        "mAP and accuracy, %",
        {"protocol": "dogs-cats", "dataset": "dogs-vs-cats"},
        columns={
            "retrieval_text_image_map": {"metric": "text_image_mAP"},
            "retrieval_image_image_map": {"metric": "image_image_mAP"},
            "zero_shot_accuracy": {"metric": "zero_shot_accuracy"},
            "one_shot_accuracy": {"metric": "few_shot_accuracy.1"},
            "sixteen_shot_accuracy": {"metric": "few_shot_accuracy.16"},
        },
    ),
    _reevaluating(
        "table2",
        "table 2: few-shot classification without texts, mean over eleven data sets",
        "table2_image_only_few_shot_accuracy",
        _PERCENT,
        _FEW_SHOT | {"with_text": False},
        datasets=FEW_SHOT_DATASETS,
    ),
    _reevaluating(
        "table3", "table 3: image-to-image retrieval", "table3_image_retrieval_map", _MAP, _REEVALUATED
    ),
    _reevaluating(
        "figure2",
        "figure 2: similarities of dogs and cats, by class and by modality",
        "figure2_similarities",
        "overlap, IoU, gap and mean cosines",
        {"dataset": "dogs-vs-cats"},
        digits=3,
    ),
    _reevaluating(
        "figure5",
        "figure 5: similarities on ImageNet, by class and by modality",
        "figure5_similarities",
        "overlap, IoU, gap and mean cosines",
        _IMAGENET,
        digits=3,
    ),
    _reevaluating(
        "figure6-methods",
        "figure 6: few-shot adaptation of ResNet-50, mean over eleven data sets",
        "figure6_methods",
        _PERCENT,
        _FEW_SHOT | {"with_text": True, "tuned_as_published": True},
        datasets=FEW_SHOT_DATASETS,
    ),
    _reevaluating(
        "figure6",
        "figure 6 and supplement: few-shot classification with and without texts, for each data set",
        "supplement_few_shot_per_dataset_accuracy",
        _PERCENT,
        _FEW_SHOT,
        digits=2,
        notes=(_ONE_SHOT_LDA,),
    ),
    _reevaluating(
        "bdd100k",
        "section 4.4: what PCA<- does to weather and time of day",
        "bdd100k_ablation_map_change",
        "change of mAP, percentage points",
        {"protocol": "image-retrieval", "dataset": "bdd100k", "method": "pca", "minus": "image-image"},
        columns={"pca_minus_original_map": {}},
    ),
    _reevaluating(
        "figure7",
        "figure 7: views of texts, images and projected images",
        "figure7_views",
        "distance of the centroids of images and projected images",
        {"protocol": "view"} | _IMAGENET,
        digits=3,
    ),
    _reevaluating(
        "figure8",
        "figure 8: the gap before and after PCA<-, without and with the mean",
        "figure8_modality_gap",
        "overlap, gap and mean cosines",
        {"protocol": "modality-indicator"} | _IMAGENET,
        digits=3,
    ),
    _reevaluating(
        "appendixA",
        "appendix A: similarities of images out of those to texts",
        "appendixA_recovery",
        "error of a cosine",
        {"protocol": "degrees-of-freedom"} | _IMAGENET,
        digits=6,
    ),
)
TABLES: Mapping[str, Table] = MappingProxyType({table.name: table for table in _RECORDS})


def find_table(name: str) -> Table:
    """The table of a name, upper or lower case, or of a CSV file of one's own (README of
    `eval/paper_tables`).

    Raises:
      JaxalignError: no table has that name (the nearest ones are offered), or there is no such file.
    """
    if name.lower().endswith(".csv"):
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise JaxalignError(f"there is no file {name}; expected a table as CSV, or a name of `--list`")
        return Table(path.stem, f"the table {path.name}", str(path), "as in the table", {}, digits=2)
    for known, table in TABLES.items():
        if known.lower() == name.lower():
            return table
    raise unknown_name("table", name, TABLES, "a table of one's own is a path that ends in .csv")
