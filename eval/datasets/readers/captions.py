"""Captions: Karpathy's files for COCO and Flickr30k, and the validation file of nocaps."""

from pathlib import Path
from typing import Any

from ..items import Content, Item
from ..records import DatasetRecord
from .lists import broken, integer, is_below, read_json, text


def read_karpathy(record: DatasetRecord, root: Path) -> Content:
    """`dataset_*.json`: a list of images with their split and sentences; captions are the `raw` sentences.

    Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions".
    """
    file = root / record.options["file"]
    content = read_json(record, file)
    splits: dict[str, list[Item]] = {split: [] for split in record.splits}
    try:
        for row in content["images"]:
            parts = [text(row[key]) for key in ("filepath", "filename") if key in row or key == "filename"]
            captions = [text(sentence["raw"]) for sentence in row["sentences"]]
            splits[row["split"]].append(captioned(record, root, "/".join(parts), captions))
    except (KeyError, TypeError) as error:
        expected = f"images with filename, sentences and a split of {', '.join(record.splits)}"
        raise broken(record, file, f"{expected}; no {error}") from None
    except ValueError as error:
        raise broken(record, file, str(error)) from None
    return Content(splits)


def read_nocaps(record: DatasetRecord, root: Path) -> Content:
    """`nocaps_val_4500_captions.json`: images and captions, in the order of the captions."""
    file = root / record.options["file"]
    content = read_json(record, file)
    captions: dict[Any, list[str]] = {}
    try:
        for row in content["annotations"]:
            captions.setdefault(integer(row["image_id"]), []).append(text(row["caption"]))
        names = {integer(row["id"]): text(row["file_name"]) for row in content["images"]}
        if len(names) != len(content["images"]):
            raise TypeError("ids that occur once")
        items = [captioned(record, root, names[image], texts) for image, texts in captions.items()]
    except (KeyError, TypeError) as error:
        raise broken(record, file, f"images and annotations with their captions; no {error}") from None
    except ValueError as error:
        raise broken(record, file, str(error)) from None
    return Content({"val": items})


def captioned(record: DatasetRecord, root: Path, name: str, captions: list[str]) -> Item:
    """An image, where it is wanted, and its captions with single spaces."""
    texts = tuple(" ".join(caption.split()) for caption in captions)
    if not texts:
        raise ValueError(f"at least one caption for {name!r}")
    if not is_below(name):
        raise ValueError(f"names of images; got {name!r}")
    return Item(name, root / record.options["images"] / name if record.images else None, (), texts)
