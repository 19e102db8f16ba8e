"""`jaxalign demo`: the main job on the embedded models and data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from .groups import Store, StoreOptions
from .options import DataDir, Seed, option
from .printing import write_json


@dataclass(frozen=True)
class Demo:
    """Compare all methods on the embedded models and images.

    Needs neither network nor GPU. Prints a table for each model. Writes metrics.json, report.html, a single
    file without external resources, and the runs, from which `jaxalign report` makes a page of its own.

    Examples:
      jaxalign demo
      jaxalign demo --out results --models emoji-clip --seed 1
    """

    out: Annotated[Path, option("Folder for metrics.json, report.html and the runs.", "DIR")] = Path(
        "jaxalign-demo"
    )
    models: Annotated[
        tuple[str, ...], option("Models to compare: of `jaxalign models`, or folders.", "NAME [NAME ...]")
    ] = ("emoji-clip", "emoji-siglip")
    seed: Seed = 0
    data_dir: DataDir = None
    results: Store = field(default_factory=StoreOptions)

    def run(self) -> None:
        from jaxalign.eval.demo import run  # it checks the folder `out` and the models before any work

        given = {"data_dir": self.data_dir, "store": self.results.store}
        write_json(self.results.json, run(self.out, models=self.models, seed=self.seed, **given))
