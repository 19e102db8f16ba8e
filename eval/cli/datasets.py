"""`jaxalign datasets`: what is known, what is prepared, what is missing, and what to put where."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxalign.eval.terminal import say

from .options import DataDir, JsonFile, option
from .printing import print_list, write_json


@dataclass(frozen=True)
class Datasets:
    """List the known data sets, and what to put where.

    Of each: what it holds, whether it is prepared here, and with its name everything about it.

    Examples:
      jaxalign datasets
      jaxalign datasets caltech101 roxford5k --source-dir /data/coop
      jaxalign datasets --prepare caltech101 --source-dir /data/coop --data-dir /data/tfds
      jaxalign datasets --json datasets.json
    """

    names: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        option("Data sets to describe at length, folder:PATH among them.", "[NAME ...]", "a table of all"),
    ] = ()
    prepare: Annotated[tuple[str, ...], option("Data sets to prepare first.", "NAME [NAME ...]", "none")] = ()
    data_dir: DataDir = None
    source_dir: Annotated[
        Path | None,
        option(
            "Folder of unpacked downloads, laid out as by CoOp.",
            "DIR",
            "$JAXALIGN_SOURCE_DIR or downloads/manual in the data folder",
        ),
    ] = None
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.eval.datasets import find_dataset, known_datasets, prepare

        find = partial(find_dataset, data_dir=self.data_dir)
        records = list(map(find, self.names)) or list(known_datasets().values())
        for record in list(map(find, self.prepare)):
            prepare(record, self.data_dir, self.source_dir)
        rows = [describe_dataset(record, self.data_dir, self.source_dir) for record in records]
        write_json(self.json, rows)
        if self.names:
            for i, row in enumerate(rows):
                for line in [*[""] * (i > 0), *page(row)]:
                    say(line)
        else:
            print_list(rows, COLUMNS, NOTES)


def describe_dataset(record: Any, data_dir: Path | None, source_dir: Path | None) -> dict[str, Any]:
    """The facts of an `jaxalign.eval.datasets.DatasetRecord`, and what of it is on this machine."""
    from jaxalign.eval.datasets import source_root

    root = source_root(data_dir, source_dir)
    missing = record.missing_sources(root)
    found = record.find_copy(data_dir, source_dir)
    return {fact: getattr(record, fact) for fact in FACTS} | {
        "splits": dict(record.splits),
        "tasks": list(record.tasks),
        "reference_splits": dict(record.reference_splits),
        "templates": {name: list(templates) for name, templates in record.templates.items()},
        "prepared": found.state == "prepared",
        "available": found.state,
        "advice": found.advice,
        "folder": str(found.folder),
        "sources": [
            asdict(source) | {"path": str(root / source.path), "there": source not in missing}
            for source in record.sources
        ],
    }


# Of a record, as they are.
FACTS = (
    *("name", "version", "captions", "images", "query", "gallery", "distractors", "train", "test"),
    *("protocol", "printed", "tfds", "source", "licence", "description", "reading", "in_place"),
)

COLUMNS = {
    "examples": lambda row: ", ".join(f"{split} {count:,}" for split, count in row["splits"].items()),
    "tasks": lambda row: ", ".join(row["tasks"]) or ("captions" if row["captions"] else ""),
}
NOTES = {
    "ready": "ready: prepared when it is first used, or now by jaxalign datasets --prepare NAME",
    "missing": "missing: jaxalign datasets NAME says what to put where, and where it comes from",
}


def page(row: dict[str, Any]) -> Iterator[str]:
    """Everything about a data set, line by line."""
    yield f"{row['name']} {row['version']}: {row['description']}"
    yield "  splits: " + ", ".join(f"{split} {count:,}" for split, count in row["splits"].items())
    if row["tasks"]:
        yield f"  labels: {', '.join(row['tasks'])}"
    if row["captions"]:
        yield f"  captions: {row['captions']}"
    yield f"  protocol: {row['protocol']}"
    if row["tasks"]:
        lengths = ", ".join(f"{name} {len(templates)}" for name, templates in row["templates"].items())
        yield f"  templates: {row['templates']['single'][0]!r} ({lengths})"
    yield f"  licence: {row['licence']}"
    yield f"  source: {row['source']}"
    said = {"prepared": "prepared in", "ready": "ready to be prepared, in", "missing": "to be prepared, in"}
    there = row["in_place"] and row["available"] == "prepared"
    yield f"  {'read where it is,' if there else said[row['available']]} {row['folder']}"
    if row["reading"]:
        yield f"  {row['reading']}"
    for source in row["sources"]:
        if source["there"]:
            yield f"  there: {source['path']}"
        else:
            optional = "" if source["required"] else f", only for {source['needed_by']}"
            yield f"  put: {source['what']} to {source['path']}{optional}"
            yield f"       from {source['url']}"
    if row["tfds"]:
        yield f"  or: {row['name']}@tfds reads the images of TFDS's own {row['tfds']}"
