"""Prepare a data set once, quietly and without TensorFlow, and check the copy each time it is opened."""

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxalign.errors import JaxalignError

from .finding import find_dataset
from .items import check_sources, content_bytes, read_content
from .prepared_files import READ_ERRORS, one_line
from .records import DatasetRecord, data_root, source_root

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def prepare(
    name: str | DatasetRecord,
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
) -> "tfds.core.DatasetBuilder":
    """The TFDS builder of a data set, prepared into `data_dir` on the first call and opened on later ones.

    Args:
      name: one of `DATASETS`, or a record.
      data_dir: TFDS's data folder; by default `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
      source_dir: the folder of unpacked downloads; by default `$JAXALIGN_SOURCE_DIR` or `downloads/manual`
        in the data folder.

    Returns:
      A builder to read from with `as_data_source` (the files are ArrayRecord).

    Raises:
      JaxalignError: unknown name, data that are not there (and where to put them), lists or images that
        are not as they should be, a folder that cannot be written, or a damaged prepared copy.
    """
    record = find_dataset(name)
    if record.in_place:
        raise JaxalignError(f"{record.name} is read where it is; there is nothing to prepare")
    if not record.is_prepared(data_dir):
        sources = source_root(data_dir, source_dir)
        if not record.needs_no_sources:
            check_sources(record, sources, data_dir)  # before anything is written
        generate(record, data_root(data_dir), sources)
    return open_prepared(record, record.folder(data_dir))


def generate(record: DatasetRecord, root: Path, sources: Path) -> None:
    """Write the prepared copy under `root`, all of it or nothing; of several processes only one does."""
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{record.builder_name}.lock"):
            if record.is_prepared(root):  # by another process, while this one waited
                return
            for orphan in (root / record.builder_name).glob("incomplete.*"):  # of a process that was killed
                shutil.rmtree(orphan)
            write_copy(record, root, sources)
    except (OSError, RuntimeError) as error:  # RuntimeError: ArrayRecord, on a full disk for instance
        where = f" of {error.filename}" if isinstance(error, OSError) and error.filename else ""
        raise JaxalignError(
            f"cannot prepare {record.name} in {root} ({one_line(error)}{where}); choose another folder with "
            "data_dir (--data-dir) or the environment variable TFDS_DATA_DIR"
        ) from error


def write_copy(record: DatasetRecord, root: Path, sources: Path) -> None:
    """Write the prepared copy, with a progress bar on standard error."""
    import tensorflow_datasets as tfds

    from jaxalign.eval.progress import progress_bar
    from jaxalign.eval.terminal import open_console

    console = open_console(sys.stderr)  # this very stream: TFDS's own is silenced below
    builder = make_builder(record, root, sources)
    with progress_bar(console, f"Preparing {record.name}", sum(record.splits.values())) as update, silence():
        builder.on_example, builder.expected = lambda: update(advance=1), record.splits
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))


def make_builder(record: DatasetRecord, root: Path, sources: Path) -> Any:
    """The builder that writes a data set under `root`."""
    if record.needs_no_sources:
        return record.builder_class()(data_dir=root, file_format="array_record")
    from .builder import ImageBuilder  # here: importing it imports tensorflow_datasets

    content = read_content(record, sources)
    needed, free = content_bytes(content), shutil.disk_usage(root).free
    if needed > free:
        raise JaxalignError(
            f"{record.name} needs {needed / 1e9:,.1f} GB in {root}, and {free / 1e9:,.1f} GB are "
            "free; choose another"
            " folder with data_dir (--data-dir) or the environment variable TFDS_DATA_DIR"
        )
    return ImageBuilder.bind(record, content)(data_dir=root, file_format="array_record")


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
            if split in builder.info.splits or split not in record.optional_splits:
                check_shards(builder.info.splits[split], expected)
    except (*READ_ERRORS, ParseError) as error:
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
