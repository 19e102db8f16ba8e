"""Places365: the list of the validation pictures and the list of the categories."""

from pathlib import Path

from ..content import Content, Item, broken, is_below
from ..records import DatasetRecord
from .class_folders import read_lines


def read(record: DatasetRecord, root: Path) -> Content:
    """`places365_val.txt`, `categories_places365.txt` and `val_large/`, in the order of file names.

    The category `/a/apartment_building/outdoor` is named `outdoor apartment building`, as CoOp does for
    SUN397.
    """
    folder = root / "Places365_val"
    categories = [line.rpartition(" ") for line in read_lines(record, folder / "categories_places365.txt")]
    if [number for _, _, number in categories] != [str(i) for i in range(len(categories))]:
        raise broken(record, folder / "categories_places365.txt", "categories numbered from 0")
    names = tuple(" ".join(reversed(name.split("/")[2:])).replace("_", " ") for name, _, _ in categories)
    items = []
    for line in sorted(read_lines(record, folder / "places365_val.txt")):
        name, _, label = line.rpartition(" ")
        if not label.isdecimal() or not is_below(name):
            raise broken(record, folder / "places365_val.txt", f"a picture and its label; got {line!r}")
        items.append(Item(name, folder / "val_large" / name, (int(label),)))
    return Content({"val": items}, {"label": names})
