"""A gallery as a `.npy` file, which NumPy maps into memory and ScaNN takes as it is."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from jaxalign.errors import JaxalignError
from jaxalign.eval.files import json_text
from jaxalign.replacing import replaced_folder

from .gallery import Gallery

EMBEDDINGS, IDS, FACTS = "embeddings.npy", "ids.jsonl", "export.json"

DTYPES = ("float32", "float16")


def write_npy(
    folder: Path,
    gallery: Gallery,
    *,
    dtype: str = "float32",
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Write `embeddings.npy` `[n, d]`, `ids.jsonl` (a JSON string on a line for each row) and `export.json`.

    The folder is there when it is whole; an earlier export in its place is replaced then.

    Args:
      dtype: "float32", or "float16" for half the size.
      advance: is told how many more rows are written.

    Returns:
      The content of `export.json`.

    Raises:
      JaxalignError: another dtype, or a folder with anything but an earlier export in it.
    """
    if dtype not in DTYPES:
        raise JaxalignError(f"dtype is {dtype}; expected float32 or float16")
    check_npy_folder(folder)
    facts = gallery.facts | export_facts(gallery) | {"dtype": dtype}
    with replaced_folder(folder) as partial:
        # Written in order, not through a memory map: a full disk is then an error, not the process's end.
        with open(partial / EMBEDDINGS, "wb") as file:
            header = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False}
            npy.write_array_header_1_0(file, header | {"shape": gallery.shape})
            for block in gallery.blocks():
                file.write(np.ascontiguousarray(block, np.dtype(dtype).newbyteorder("<")).data)
                advance(len(block))
        write_ids(partial / IDS, gallery.ids)
        write_facts(partial / FACTS, facts)
    return facts


def check_npy_folder(folder: Path) -> None:
    """Raise JaxalignError for a place with anything in it that is not an earlier export."""
    if folder.exists() and not folder.is_dir():
        raise JaxalignError(f"cannot write the folder {folder}: it is a file; choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS).is_file():
        raise JaxalignError(
            f"the folder {folder} is not empty and no earlier export; choose another one, or empty it"
        )


def write_ids(file: Path, ids: Iterable[str]) -> None:
    """One JSON string on each line: ids may contain anything."""
    with open(file, "w", encoding="utf-8") as out:
        out.writelines(json_text(name) + "\n" for name in ids)


def write_facts(file: Path, facts: dict[str, Any]) -> None:
    file.write_text(json_text(facts, indent=2) + "\n", encoding="utf-8")


def export_facts(gallery: Gallery) -> dict[str, Any]:
    """Numbers of a gallery."""
    rows, width = gallery.shape
    return {"rows": rows, "width": width, "left_out": gallery.store.rows - rows, "normalized": True}
