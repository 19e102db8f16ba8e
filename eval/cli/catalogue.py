"""`jaxalign models` and `jaxalign datasets`: what is known, and what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .arguments import DataDir, JsonFile


@dataclass(frozen=True)
class Models:
    """List the known models: source, size, the paper's IsoCLIP band, and whether they are available locally.

    Examples:
      jaxalign models
      jaxalign models --json models.json
    """

    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.specs import MODELS

        from .output import check_file, write_json

        check_file(self.json)
        rows = [describe_model(spec) for spec in MODELS.values()]
        write_json(self.json, rows)
        print_table(
            ("name", "size", "input", "band", "text band", "local", "source, licence"),
            [
                (
                    row["name"],
                    f"{row['parameters'] / 1e6:.1f} M",
                    f"{row['image_size']} px",
                    format_band(row["band"]),
                    format_band(row["text_band"]),
                    "yes" if row["local"] else "no",
                    f"{row['source']} ({row['licence']})",
                )
                for row in rows
            ],
        )


@dataclass(frozen=True)
class Datasets:
    """List the known data sets: splits, tasks, source, licence, and whether they are prepared locally.

    Examples:
      jaxalign datasets
      jaxalign datasets --data-dir /data/tfds --json datasets.json
    """

    data_dir: DataDir = None
    json: JsonFile = None

    def run(self) -> None:
        from eval.datasets import DATASETS

        from .output import check_file, write_json

        check_file(self.json)
        rows = [
            {
                "name": record.name,
                "version": record.version,
                "splits": dict(record.splits),
                "tasks": list(record.tasks),
                "captions": record.captions,
                "source": record.source,
                "licence": record.licence,
                "description": record.description,
                "prepared": record.is_prepared(self.data_dir),
                "folder": str(record.folder(self.data_dir)),
            }
            for record in DATASETS.values()
        ]
        write_json(self.json, rows)
        print_table(
            ("name", "examples", "tasks", "prepared", "source, licence"),
            [
                (
                    row["name"],
                    "\n".join(f"{split} {count:,}" for split, count in row["splits"].items()),
                    ", ".join(row["tasks"]),
                    "yes" if row["prepared"] else "no",
                    f"{row['source']} ({row['licence']})",
                )
                for row in rows
            ],
        )


def describe_model(spec: Any) -> dict[str, Any]:
    """The facts of a `jaxalign.specs.ModelSpec` that the table shows."""
    image = spec.towers.image
    return {
        "name": spec.name,
        "parameters": count_parameters(spec),
        "embedding_width": image.embedding_width,
        "image_size": image.image_size,
        "band": spec.band,
        "text_band": spec.text_band,
        "local": is_local(spec.name),
        "licence": spec.licence,
        "source": spec.source,
        "revision": spec.revision,
        "paper": spec.paper,
    }


def count_parameters(spec: Any) -> int:
    """Number of parameters of both towers, from shapes alone."""
    import jax
    import jax.numpy as jnp

    from jaxalign.models import TwoTowers

    side = spec.towers.image.image_size
    pixels, tokens = jnp.zeros((1, side, side, 3)), jnp.zeros((1, spec.towers.text.context), jnp.int32)
    shapes = jax.eval_shape(TwoTowers(spec.towers).init, jax.random.key(0), pixels, tokens)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def is_local(name: str) -> bool:
    """Whether the weights of a model ship inside the package."""
    from importlib.resources import files

    return files("jaxalign").joinpath("embedded", name, "model.safetensors").is_file()


def format_band(band: tuple[int, int] | None) -> str:
    """(k_top, k_bottom) as the tables show it."""
    return "-" if band is None else f"{band[0]}, {band[1]}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output; every cell in full, wrapped where the terminal is narrow."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
