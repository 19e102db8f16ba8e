"""The prepared copy of a data set: written once by TFDS, without TensorFlow, and checked when it is opened.

Beside the examples of a split lie an index of them (see `examples`), by which labels and names are there
without images, and a digest, which tells copies of one version apart that do not hold the same. TFDS ignores
both.
"""

import contextlib
import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.files import write_json
from jaxalign.inputs.image_files import opened_image
from jaxalign.local_files import read_json

from .examples import Examples, Index, index_file, read_index
from .images import Images
from .items import check_sources, content_bytes, read_content
from .records import DatasetRecord, Folder, data_root, source_root

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

BLOCK = 256  # examples that a thread reads and decodes at a time
THREADS = 4
UNCROPPED = "-uncropped"  # ending of the split whose images are not cropped to their boxes
# What TFDS and ArrayRecord raise for a damaged copy; RuntimeError: a hash of ArrayRecord does not match.
_READ_ERRORS = (OSError, KeyError, IndexError, TypeError, ValueError, RuntimeError)
_LONGEST = 160  # characters of what they say


def prepare(
    record: DatasetRecord, data_dir: Folder = None, source_dir: Folder = None
) -> "tfds.core.DatasetBuilder":
    """See `loading.prepare`."""
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


def load_parts(
    record: DatasetRecord, names: Sequence[str], data_dir: Folder, source_dir: Folder, on_demand: bool
) -> list[Examples]:
    """These splits of the data set, which is prepared first where that was not done."""
    builder, folder = prepare(record, data_dir, source_dir), record.folder(data_dir)
    with naming_damage(record, folder):
        return [load_part(record, builder, name, folder, on_demand) for name in names]


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


def content_digest(folder: Path, split: str, files: Sequence[Path]) -> str:
    """Of the content of `files`, which are those of `split` in `folder`: sixteen hexadecimal digits.

    Reading them all takes a second for a gigabyte or so. So the digest is remembered beside them, and taken
    anew where the size of a file or one of its times has changed; in a folder that cannot be written, every
    time. Raises OSError for a file that cannot be read.
    """
    facts = {path.name: _facts(path) for path in sorted(files)}
    remembered = folder / f"{split}.digest.json"
    known = _read(remembered)
    if known.get("files") == facts and isinstance(known.get("digest"), str):
        return known["digest"]
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    found = digest.hexdigest()[:16]
    with contextlib.suppress(OSError):  # of a folder that cannot be written nothing is remembered
        write_json(remembered, {"files": facts, "digest": found}, indent=None)
    return found


def _facts(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read(path: Path) -> dict[str, Any]:
    """What was remembered; empty where that is nothing, or damaged."""
    try:
        content = read_json(path) if path.is_file() else {}
    except JaxalignError:
        return {}
    return content if isinstance(content, dict) else {}


def naming_damage(record: DatasetRecord, folder: Path) -> contextlib.AbstractContextManager[None]:
    """In the block, what cannot be read of a prepared copy is an error that says what to do about it."""
    damaged = f"the prepared copy of {record.name} is damaged"
    return explained(lambda reason: f"{damaged} ({reason}); delete the folder {folder} and run again")


@contextlib.contextmanager
def explained(say: Callable[[str], str]) -> Iterator[None]:
    """What TFDS and ArrayRecord raise of a damaged copy, as an error of one line: what `say` makes of it."""
    from google.protobuf.json_format import ParseError  # here: most data sets are not read by TFDS

    try:
        yield
    except JaxalignError:
        raise
    except (*_READ_ERRORS, ParseError) as error:
        raise JaxalignError(say(one_line(error))) from error


def one_line(error: Exception) -> str:
    """What an exception of TFDS or ArrayRecord says, without its line breaks and not at length."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
