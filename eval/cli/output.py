"""Where results go: checked before the work starts, written whole or not at all."""

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxalign.errors import JaxalignError
from jaxalign.eval.json_text import json_text
from jaxalign.replacing import replaced_file

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder

_LONGEST = 200  # characters of a file's name, of 255 that file systems take


def chart_file(model: "DualEncoder", *parts: str) -> str:
    """A file name for a chart of `model`; those of models of one name, two fine-tuned ones, are different."""
    from jaxalign.eval.features.key import weights_digest
    from jaxalign.weights.identity import is_known

    name = model.name if is_known(model.name) else f"{model.name}-{weights_digest(model.params)[:8]}"
    return re.sub(r"[^\w.+-]+", "_", "-".join((name, *parts)))[-_LONGEST:]


def check_folder(folder: Path) -> None:
    """Raise JaxalignError unless files can be written in `folder`, which need not exist yet."""
    existing = folder.absolute()
    while not os.path.exists(existing):  # which says no of a name that is too long
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise JaxalignError(
            f"cannot write to the folder {folder} ({error.strerror}); choose another one"
        ) from error


def check_file(file: Path | None) -> None:
    """Raise JaxalignError unless `file` can be written; None, for a result that nobody asked for, can."""
    if file is None:
        return
    if os.path.isdir(file):
        raise JaxalignError(f"cannot write the file {file}: it is a folder; add a file name")
    if not os.path.isdir(file.absolute().parent):
        raise JaxalignError(f"cannot write the file {file}: there is no folder {file.parent}; make it first")
    if not os.path.exists(file) or os.path.isfile(file):
        check_folder(file.absolute().parent)


def write_json(file: Path | None, content: Any) -> None:
    """Write `content` to `file` as `write_text` does; does nothing for None."""
    if file is not None:
        write_text(file, json_text(content, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write `text` to `file`, by way of a temporary file beside it."""
    if file.exists() and not file.is_file():  # /dev/stdout: to be written to, not to be replaced
        file.write_text(text, encoding="utf-8")
        return
    with replaced_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
