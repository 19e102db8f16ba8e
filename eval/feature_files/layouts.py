"""Which files a data set `features:PATH` is made of: a file, a known folder, or several splits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.image_folder import ALL, SPLIT_NAMES, canonical
from jaxalign.local_files import is_there

from .tables import READERS

NAMES = (*(name for names in SPLIT_NAMES.values() for name in names), "query", "gallery")
_MAPPING = re.compile(rf"(?:^|,)({'|'.join(NAMES)})=")
_PARTS = ("img_emb", "text_emb")  # folders of clip-retrieval
_METADATA = "metadata"
_EXPORTED = ("embeddings.npy", "ids.jsonl")  # of `jaxalign export --npy`


@dataclass(frozen=True)
class Part:
    """Features in one file, and their labels and ids in another; None where they are in the same."""

    features: Path
    metadata: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.features,) if self.metadata is None else (self.features, self.metadata)


def split_paths(text: str) -> dict[str, Path]:
    """`PATH`, which is the split `all`, or `train=PATH,test=PATH`, by the name of the split.

    Names of splits are those of `NAMES`; a path that begins like one is written `./train=...`. Raises
    JaxalignError for one split twice, or no path.
    """
    found = list(_MAPPING.finditer(text))
    if not found or found[0].start() != 0:
        return {ALL: Path(text).expanduser()}
    ends = [match.start() for match in found[1:]] + [len(text)]
    paths: dict[str, Path] = {}
    for match, end in zip(found, ends, strict=True):
        split, path = canonical(match[1]), text[match.end() : end]
        if not path or split in paths:
            raise JaxalignError(
                f"{text!r:.200} gives {split} {'twice' if path else 'no path'}; expected each split once, as"
                " in train=a.npz,test=b.npz"
            )
        paths[split] = Path(path).expanduser()
    return paths


def find_splits(text: str) -> dict[str, tuple[Part, ...]]:
    """The parts of each split of a data set `features:TEXT`, as the folder is now; raises JaxalignError for
    no such file or folder, or a folder of no known layout."""
    paths = split_paths(text)
    for path in paths.values():
        if not is_there(path):
            raise JaxalignError(f"there is no file or folder {path}; expected one of features")
    if list(paths) == [ALL] and paths[ALL].is_dir() and not _is_layout(paths[ALL]):
        paths = _splits_in(paths[ALL])
    return {split: _parts_of(path) for split, path in paths.items()}


def _splits_in(folder: Path) -> dict[str, Path]:
    """Files and folders with names of splits: `train.npz`, `test/`."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name if path.is_dir() else path.stem
        if name.casefold() not in NAMES or not (path.is_dir() or path.suffix.lower() in READERS):
            continue
        split = canonical(name)
        if split in found:
            raise JaxalignError(
                f"{folder} has both {found[split].name} and {path.name}; say which is {split}, as in"
                f" features:{split}={path}"
            )
        found[split] = path
    if not found:
        raise JaxalignError(
            f"{folder} is no folder of features; expected img_emb/ of clip-retrieval, embeddings.npy of"
            " `jaxalign export`, or files called after their splits (train.npz, test.npz)"
        )
    return {split: found[split] for split in (*SPLIT_NAMES, "query", "gallery") if split in found}


def _is_layout(folder: Path) -> bool:
    return folder.name in _PARTS or any((folder / name).exists() for name in (*_PARTS, _EXPORTED[0]))


def _parts_of(path: Path) -> tuple[Part, ...]:
    if not path.is_dir():
        return (Part(path),)
    embeddings, ids = (path / name for name in _EXPORTED)
    if embeddings.is_file():
        return (Part(embeddings, ids if ids.is_file() else None),)
    if path.name in _PARTS:
        return _numbered(path, path.parent / _METADATA)
    inner = next((path / name for name in _PARTS if (path / name).is_dir()), None)
    if inner is None:
        raise JaxalignError(f"{path} is no folder of features; expected img_emb/ or embeddings.npy in it")
    return _numbered(inner, path / _METADATA)


def _numbered(folder: Path, metadata: Path) -> tuple[Part, ...]:
    """`img_emb_0.npy` and so on by their numbers, each with its `metadata_0.parquet` if there is one."""
    found: Mapping[int, Path] = {
        int(path.stem.rpartition("_")[2]): path
        for path in folder.iterdir()
        if re.fullmatch(rf"{folder.name}_\d{{1,9}}\.npy", path.name)
    }
    if not found:
        raise JaxalignError(f"{folder} has no {folder.name}_0.npy; expected the layout of clip-retrieval")
    parts = []
    for number in sorted(found):
        digits = found[number].stem.rpartition("_")[2]
        about = metadata / f"metadata_{digits}.parquet"
        parts.append(Part(found[number], about if about.is_file() else None))
    if len({part.metadata is None for part in parts}) > 1:
        lacking = next(part.features for part in parts if part.metadata is None)
        raise JaxalignError(f"{lacking} has no metadata beside it, and others have; expected all or none")
    return tuple(parts)
