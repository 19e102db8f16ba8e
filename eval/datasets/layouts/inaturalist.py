"""iNaturalist 2021 mini: annotations in the format of COCO."""

from pathlib import Path

from ..content import Content, Item, broken, integer, is_below, read_json, text
from ..records import DatasetRecord


def read(record: DatasetRecord, root: Path) -> Content:
    """`annotations/train_mini.json` and `train_mini/`, in the order of the annotations' list of pictures.

    Class names are the species' common names, or the scientific ones where there is none.
    """
    folder = root / "iNaturalist2021_train"
    file = folder / "annotations" / "train_mini.json"
    content = read_json(record, file)
    try:
        species = sorted(content["categories"], key=lambda row: integer(row["id"]))
        names = tuple(text(row.get("common_name") or row["name"]) for row in species)
        label_of = {row["id"]: label for label, row in enumerate(species)}
        labels = {
            integer(row["image_id"]): label_of[integer(row["category_id"])] for row in content["annotations"]
        }
        if len(label_of) != len(species) or len(labels) != len(content["annotations"]):
            raise TypeError("ids that occur once")
        pictures = [(text(row["file_name"]), labels[integer(row["id"])]) for row in content["images"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise broken(record, file, f"categories, images and their annotations; no {error}") from None
    strange = [name for name, _ in pictures if not is_below(name)]
    if strange:
        raise broken(record, file, f"paths of pictures; got {strange[0]!r}")
    return Content(
        {"train": [Item(name, folder / name, (label,)) for name, label in pictures]}, {"label": names}
    )
