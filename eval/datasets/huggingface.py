"""What Hugging Face's `datasets` has saved to disk, `huggingface:PATH`; needs the extra of that name.

Only what `save_to_disk` writes is read: Arrow files and JSON, no scripts.
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError

from .data_reading import HUGGINGFACE, Keys, as_texts, own_record
from .examples import UNLABELLED, Examples
from .images import Images
from .records import DatasetRecord, Folder


def huggingface_record(name: str, keys: Keys) -> DatasetRecord:
    """The record of `huggingface:PATH`, a folder of `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.
    Raises JaxalignError for no such folder, features that are not told apart, or without the package
    `datasets`."""
    path = Path(name.removeprefix(HUGGINGFACE)).expanduser()
    splits = _load(path)
    first = next(iter(splits.values()))
    of = lambda kind: [key for key, feature in first.features.items() if type(feature).__name__ == kind]
    chosen = keys.choose(name, of("Image"), of("ClassLabel"), list(first.features))
    sizes = {split: len(rows) for split, rows in splits.items()}
    opened = partial(_read_split, path, chosen)
    return own_record(f"{HUGGINGFACE}{path.resolve()}", sizes, chosen, opened, source=str(path))


def _load(path: Path) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise JaxalignError(
            "data sets of Hugging Face need the extra `huggingface`: pip install 'jaxalign[huggingface]'"
        ) from error
    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise JaxalignError(
            f"{path} cannot be read as a data set of Hugging Face ({' '.join(str(error).split())[:200]});"
            " expected a folder that save_to_disk wrote"
        ) from error
    splits = found if isinstance(found, datasets.DatasetDict) else {"all": found}
    return {str(name): _plain(rows) for name, rows in splits.items()}


def _plain(rows: Any) -> Any:
    """All columns as Python has them, whatever format was set before they were saved."""
    is_plain = rows.format["type"] is None and set(rows.format["columns"]) == set(rows.column_names)
    return rows if is_plain else rows.with_format(None)


def _read_split(path: Path, keys: Keys, split: str, *places: Folder) -> Examples:
    import datasets

    rows = _load(path)[split]
    names = tuple(f"{split}/{index}" for index in range(len(rows)))
    if keys.image:
        rows = rows.cast_column(keys.image, datasets.Image(decode=False))

    def read(index: int) -> bytes | Path:
        image = rows[index][keys.image]
        if image is None or not (image["bytes"] or image["path"]):
            raise JaxalignError(f"{names[index]} of {path} has no image")
        return image["bytes"] or Path(image["path"])

    labels = _labels(path, rows, keys.label) if keys.label else None
    facts = json.dumps([rows._fingerprint, len(rows), vars(keys)])
    return Examples(
        dataset=f"{HUGGINGFACE}{path.resolve()}",
        split=split,
        version="1.0.0",
        images=Images(read, names, f"{path}/{split}") if keys.image else None,
        labels={} if labels is None else {keys.label: labels},
        label_names={} if labels is None else {keys.label: tuple(rows.features[keys.label].names)},
        captions=tuple(as_texts(text) for text in rows[keys.text]) if keys.text else (),
        file_names=names,
        content=hashlib.sha256((facts + _digest_of(rows)).encode()).hexdigest()[:16],
    )


def _labels(path: Path, rows: Any, key: str) -> np.ndarray:
    """int32 `[n]`, `UNLABELLED` where a row has none; raises JaxalignError for one that has no name."""
    values, count = rows[key], len(rows.features[key].names)
    for value in values:
        if value is not None and not UNLABELLED <= value < count:
            raise JaxalignError(
                f"{path} has the {key} {value} and {count} names; expected a name for each label"
            )
    return np.array([UNLABELLED if x is None else x for x in values], np.int32)


def _digest_of(rows: Any) -> str:
    """Of the Arrow files, which the fingerprint of a saved data set does not follow."""
    digest = hashlib.sha256()
    for file in sorted(entry["filename"] for entry in rows.cache_files):
        with open(file, "rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
