"""Find a data set by its name, prepare it once where that is needed, and read its splits.

A data set is one of the table, which is prepared quietly and without TensorFlow and whose copy is checked
each time it is opened; a folder of images; or CoOp's splits on a copy of TFDS.
"""

import contextlib
import io
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.inputs.image_files import opened_image

from . import catalogue
from .data_reading import FEATURES, HUGGINGFACE, TFDS, WEBDATASET, DataReading, Keys
from .examples import Examples, concatenate
from .huggingface import huggingface_record
from .image_folder import READINGS, canonical, folder_record
from .images import Images
from .items import check_sources, content_bytes, read_content
from .prepared_files import Index, content_digest, explained, index_file, one_line, read_index
from .records import DatasetRecord, Folder, data_root, source_root
from .tfds_copies import JOINED, joined_record, tfds_record
from .webdataset import webdataset_record

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

BLOCK = 256  # examples that a thread reads and decodes at a time
THREADS = 4
UNCROPPED = "-uncropped"  # ending of the split whose images are not cropped to their boxes


def find_dataset(
    name: str | DatasetRecord, reading: DataReading | None = None, data_dir: Folder = None
) -> DatasetRecord:
    """The record of `name`; a record is its own.

    `folder:PATH` is the data set of a folder of images (`classes:PATH`, `splits:PATH` where it is said what
    its subfolders are), which is read here, once: `load_split` of the record does not look again. `NAME@tfds`
    is that of CoOp's splits on a copy of TFDS. `tfds:NAME[:VERSION]` is any data set that TFDS has prepared,
    `webdataset:PATH` and `huggingface:PATH` are tar files and folders in these layouts, and `features:PATH`
    is features that are there already, all read as `reading` says. Raises JaxalignError for a name that no
    data set has (the nearest are offered), or a folder that cannot be read.
    """
    if isinstance(name, DatasetRecord):
        return name
    if name.startswith(READINGS):
        return folder_record(name)
    if name.startswith(FEATURES):
        from jaxalign.eval.feature_files import features_record  # here: the other records need no jax

        return features_record(name, reading)
    if name.startswith((TFDS, WEBDATASET, HUGGINGFACE)):
        reading = reading or DataReading()
        keys = Keys(reading.image_key, reading.label_key, reading.text_key)
        if name.startswith(TFDS):
            return tfds_record(name, keys, data_dir)
        return (webdataset_record if name.startswith(WEBDATASET) else huggingface_record)(name, keys)
    if name.endswith(JOINED):
        return joined_record(name.removesuffix(JOINED))
    known = catalogue.known_datasets()
    if name not in known:
        raise unknown_name("data set", name, known, "a folder of images is written folder:PATH")
    return known[name]


def load_split(
    name: str | DatasetRecord,
    split: str,
    data_dir: Folder = None,
    source_dir: Folder = None,
    *,
    on_demand: bool = False,
) -> Examples:
    """The examples of a split in the order of the files; prepares the data set first where that was not done.

    Args:
      name: as for `find_dataset`.
      split: of the data set; `a+b` is both, one after the other. `query-uncropped` is `query` with whole
        images.
      data_dir: see `data_root`.
      source_dir: see `source_root`.
      on_demand: whether the images of the embedded data sets, too, are decoded when they are asked for.

    Raises:
      JaxalignError: unknown data set or split, data that are not there (and where to put them), a folder
        that cannot be written, or a damaged prepared copy.
    """
    record = find_dataset(name, data_dir=data_dir)
    parts = split_parts(record, split)
    if record.open_split is not None:
        loaded = [record.open_split(part, data_dir, source_dir) for part in parts]
    else:
        builder, folder = prepare(record, data_dir, source_dir), record.folder(data_dir)
        with naming_damage(record, folder):
            loaded = [load_part(record, builder, part, folder, on_demand) for part in parts]
    return loaded[0] if len(loaded) == 1 else concatenate(loaded)


def split_parts(record: DatasetRecord, split: str) -> list[str]:
    """The splits that `split` is made of, by their names in `record`; raises for one that is unknown, or
    there twice."""
    known = list(record.splits)
    if not record.in_place:
        known += [f"{name}{UNCROPPED}" for name in known if name == "query"]
    parts: list[str] = []
    for name in split.split("+"):
        part = canonical(name) if record.in_place and name not in known else name  # a folder's have several
        if part not in known:
            raise unknown_name(f"split of {record.name}", name, known)
        if part in parts:
            raise JaxalignError(f"the split {split} has {part} twice; expected each once")
        parts.append(part)
    return parts


def load_part(record: DatasetRecord, builder: Any, name: str, folder: Path, on_demand: bool) -> Examples:
    """One split of a prepared copy."""
    import tensorflow_datasets as tfds

    split = name.removesuffix(UNCROPPED)
    if split not in builder.info.splits:
        needed = [source.path for source in record.sources if not source.required]
        raise JaxalignError(
            f"the prepared copy of {record.name} has no split {split}: it was prepared without"
            f" {', '.join(needed)}; put that in place, delete the folder {folder} and run again"
        )
    decoders = {"image": tfds.decode.SkipDecoding()} if record.images else None
    source = builder.as_data_source(split, decoders=decoders)

    def read(row: int) -> bytes:
        with naming_damage(record, folder):
            return source[row]["image"]

    if record.in_memory:
        index, images = read_all(record, builder, source, decoded=not on_demand)
    else:
        index = read_index(folder, split)
        boxes = () if name.endswith(UNCROPPED) else index.boxes
        images = Images(read, index.file_names, f"{record.name}/{name}", boxes) if record.images else None
    if len(index.file_names) != len(source):
        raise ValueError(
            f"the index of {split} has {len(index.file_names)} examples instead of {len(source)}"
        )
    return Examples(
        dataset=record.name,
        split=name,
        version=record.version,
        images=images,
        labels=index.labels,
        label_names=index.label_names,
        captions=index.captions,
        file_names=index.file_names,
        ground_truth=index.ground_truth,
        content=content_digest(folder, split, prepared_files(record, builder, split, folder)),
        same=tuple((record.name, name) for name in index.file_names),  # unique in the data set
    )


def prepared_files(record: DatasetRecord, builder: Any, split: str, folder: Path) -> list[Path]:
    """All files that decide what a split of a prepared copy holds."""
    shards = [Path(os.fspath(path)) for path in builder.info.splits[split].filepaths]
    beside = [index_file(folder, split), *(folder / f"{task}.labels.txt" for task in record.tasks)]
    return [*shards, *(path for path in beside if path.is_file())]


def read_all(
    record: DatasetRecord, builder: Any, source: Any, *, decoded: bool
) -> tuple[Index, np.ndarray | Images]:
    """Every example of a split; images uint8 [n, h, w, 3], or as their files hold them."""

    def read(start: int) -> list[dict]:
        rows = source.__getitems__(range(start, min(start + BLOCK, len(source))))
        if not decoded:
            return rows
        return [row | {"image": decode_image(row["image"], row["file_name"].decode())} for row in rows]

    with ThreadPoolExecutor(THREADS) as pool:
        rows = [row for block in pool.map(read, range(0, len(source), BLOCK)) for row in block]
    index = Index(
        file_names=tuple(row["file_name"].decode() for row in rows),
        labels={task: np.array([row[task] for row in rows], np.int32) for task in record.tasks},
        label_names={task: tuple(builder.info.features[task].names) for task in record.tasks},
        captions=tuple(tuple(text.decode() for text in row["captions"]) for row in rows),
    )
    images = [row["image"] for row in rows]
    if decoded:
        return index, np.stack(images)
    return index, Images(images.__getitem__, index.file_names, record.name)


def decode_image(data: bytes, where: str = "the file") -> np.ndarray:
    """The pixels uint8 [h, w, 3] of an image file; TFDS's own decoder keeps palettes and alpha channels.
    Raises JaxalignError where it cannot be read as an image, and says why."""
    with opened_image(data, where) as image:
        return np.asarray(image.convert("RGB"))


def prepare(
    name: str | DatasetRecord, data_dir: Folder = None, source_dir: Folder = None
) -> "tfds.core.DatasetBuilder":
    """The TFDS builder of a data set, prepared into `data_dir` on the first call and opened on later ones.

    Args:
      name: one of `DATASETS`, or a record.
      data_dir: TFDS's data folder (see `data_root`).
      source_dir: the folder of unpacked downloads (see `source_root`).

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

    from jaxalign.eval.terminal import open_console, progress_bar

    console = open_console(sys.stderr)  # this very stream: TFDS's own is silenced below
    builder = make_builder(record, root, sources)
    with progress_bar(console, f"Preparing {record.name}", sum(record.splits.values())) as update:
        builder.on_example, builder.expected = lambda: update(advance=1), record.splits
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        # What TFDS prints while it prepares: two notices and several progress bars.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare(download_config=config)


def make_builder(record: DatasetRecord, root: Path, sources: Path) -> Any:
    """The builder that writes a data set under `root`."""
    if record.needs_no_sources:
        return record.builder_class()(data_dir=root, file_format="array_record")
    from .builder import ImageBuilder  # here: importing it imports tensorflow_datasets

    content = read_content(record, sources)
    needed, free = content_bytes(content), shutil.disk_usage(root).free
    if needed > free:
        raise JaxalignError(
            f"{record.name} needs {needed / 1e9:,.1f} GB in {root}, and {free / 1e9:,.1f} GB are free; choose"
            " another folder with data_dir (--data-dir) or the environment variable TFDS_DATA_DIR"
        )
    return ImageBuilder.bind(record, content)(data_dir=root, file_format="array_record")


def open_prepared(record: DatasetRecord, folder: Path) -> "tfds.core.DatasetBuilder":
    """The builder of the prepared copy in `folder`, after the checks that TFDS leaves out.

    TFDS takes a copy for complete if its two json files are there. Here every label must have its names, and
    every split as many examples as the record says, in shards that open and hold what the metadata say. The
    bytes are checked when they are read: ArrayRecord has hashes.
    """
    import tensorflow_datasets as tfds

    with naming_damage(record, folder):
        builder = tfds.builder_from_directory(folder)
        check_labels(record, builder, folder)
        for split, expected in record.splits.items():
            if split in builder.info.splits or split not in record.optional_splits:
                check_shards(builder.info.splits[split], expected)
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


def naming_damage(record: DatasetRecord, folder: Path) -> contextlib.AbstractContextManager[None]:
    """In the block, what cannot be read of a prepared copy is an error that says what to do about it."""
    damaged = f"the prepared copy of {record.name} is damaged"
    return explained(lambda reason: f"{damaged} ({reason}); delete the folder {folder} and run again")
