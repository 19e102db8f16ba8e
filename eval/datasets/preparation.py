"""Prepare a data set once, quietly and without TensorFlow, and check the copy each time it is opened."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxalign.errors import JaxalignError

from .records import DatasetRecord, data_root, find_dataset

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def prepare(name: str, data_dir: str | os.PathLike | None = None) -> "tfds.core.DatasetBuilder":
    """The TFDS builder of a data set, prepared into `data_dir` on the first call and opened on later ones.

    Args:
      name: one of `DATASETS`.
      data_dir: TFDS's data folder; by default `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Returns:
      A builder to read from with `as_data_source` (the files are ArrayRecord).

    Raises:
      JaxalignError: unknown name, a folder that cannot be written, or a damaged prepared copy.
    """
    record = find_dataset(name)
    if not record.is_prepared(data_dir):
        generate(record, data_root(data_dir))
    return open_prepared(record, record.folder(data_dir))


def generate(record: DatasetRecord, root: Path) -> None:
    """Write the prepared copy under `root`, all of it or nothing, with a progress bar on standard error."""
    import tensorflow_datasets as tfds
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)  # this very stream: TFDS's own is silenced below
    try:
        builder = record.builder_class()(data_dir=root, file_format="array_record")
        bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        with bar as progress, silence():
            task = progress.add_task(f"Preparing {record.name}", total=sum(record.splits.values()))
            builder.on_example = lambda: progress.advance(task)
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except (OSError, RuntimeError) as error:  # RuntimeError: ArrayRecord, on a full disk for instance
        if record.is_prepared(root):  # another process was faster and moved its own copy there
            return
        raise JaxalignError(
            f"cannot prepare {record.name} in {root} ({one_line(error)}); choose another folder with "
            "data_dir (--data-dir) or the environment variable TFDS_DATA_DIR"
        ) from error


@contextlib.contextmanager
def silence():
    """Discard what TFDS prints while it prepares: two notices and several progress bars."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def open_prepared(record: DatasetRecord, folder: Path) -> "tfds.core.DatasetBuilder":
    """The builder of the prepared copy in `folder`, after the checks that TFDS leaves out.

    TFDS takes a copy for complete if its two json files are there. Here every label must have its names, and
    every split as many examples as the record says, in shards that open and hold what the metadata say. The
    bytes are checked when they are read: ArrayRecord has hashes.
    """
    import tensorflow_datasets as tfds
    from google.protobuf.json_format import ParseError

    try:
        builder = tfds.builder_from_directory(folder)
        check_labels(record, builder, folder)
        for split, expected in record.splits.items():
            check_shards(builder.info.splits[split], expected)
    except (OSError, KeyError, ValueError, RuntimeError, ParseError) as error:  # RuntimeError: ArrayRecord
        raise damaged(record, folder, error) from error
    return builder


def check_labels(record: DatasetRecord, builder: Any, folder: Path) -> None:
    """Raise ValueError where names are missing: TFDS would make up the names '0', '1', and so on."""
    for task in record.tasks:
        label = builder.info.features[task]
        file = folder / f"{task}.labels.txt"
        if not file.is_file() or len(label.names) != label.num_classes:
            raise ValueError(f"{file.name} does not have the {label.num_classes} names of the label")


def check_shards(split: Any, expected: int) -> None:
    """Raise unless the shards of a `tfds.core.SplitInfo` open and have `expected` examples together."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path, length in zip(split.filepaths, split.shard_lengths, strict=True):
        reader = ArrayRecordReader(os.fspath(path))
        found = reader.num_records()
        reader.close()
        if found != length:
            raise ValueError(f"{Path(path).name} has {found} examples instead of {length}")
    if split.num_examples != expected:
        raise ValueError(f"{split.name} has {split.num_examples} examples instead of {expected}")


def damaged(record: DatasetRecord, folder: Path, error: Exception) -> JaxalignError:
    """The error for a prepared copy that cannot be read."""
    fault = f"the prepared copy of {record.name} is damaged ({one_line(error)})"
    return JaxalignError(f"{fault}; delete the folder {folder} and run again")


def one_line(error: Exception, most: int = 160) -> str:
    """What an exception of TFDS or ArrayRecord says, without its line breaks and not at length."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return text if len(text) <= most else f"{text[:most]} ..."
