"""`jaxalign demo`: the main job on the embedded models and data."""

from dataclasses import dataclass
from pathlib import Path

from .arguments import DataDir, JsonFile, ModelNames, OutFolder, Seed


@dataclass(frozen=True)
class Demo:
    """Compare every method on the embedded models and data sets; needs no network.

    Prints one table, and writes metrics.json and report.html, a single file without external resources.

    Examples:
      jaxalign demo
      jaxalign demo --out results --models emoji-clip
    """

    out: OutFolder = Path("jaxalign-demo")
    models: ModelNames = ("emoji-clip", "emoji-siglip")
    seed: Seed = 0
    data_dir: DataDir = None
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.errors import JaxalignError
        from jaxalign.specs import find_spec

        from .output import check_file, check_folder, write_json

        if not self.models:
            raise JaxalignError("no model given; name at least one after --models")
        for name in self.models:
            find_spec(name)
        check_folder(self.out)
        check_file(self.json)
        from eval.demo import run

        write_json(self.json, run(self.out, models=self.models, data_dir=self.data_dir, seed=self.seed))
