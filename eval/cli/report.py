"""`jaxalign report`: earlier runs as one HTML page."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxalign.errors import JaxalignError
from jaxalign.eval.terminal import Stages, say

from .options import DataDir, JsonFile, TableFile, option
from .printing import check_file, check_table, counted, write_json, write_table


@dataclass(frozen=True)
class Report:
    """Show the runs of a folder as one HTML page.

    Tables, spectra, heat maps of bands, histograms, and queries with what they found first. The page needs no
    other file and no network. Images of queries come from the prepared data sets of this machine; nothing is
    measured, prepared or downloaded. With --table the numbers of all runs, of whatever models and data sets,
    also go into one file, with what each gains over the first one on the same.

    Examples:
      jaxalign report
      jaxalign report results --page results.html
      jaxalign report results --title "Bands on CUB" --json report.json
      jaxalign report results --table results.tex
    """

    folder: Annotated[
        Path, tyro.conf.Positional, option("Folder of the runs: the --out of other commands.", "FOLDER")
    ] = Path("jaxalign-runs")
    page: Annotated[
        Path | None, option("File for the page.", "FILE", "report.html in the folder of the runs")
    ] = None
    title: Annotated[str, option("Heading of the page.", "TEXT")] = "jaxalign report"
    data_dir: DataDir = None
    json: JsonFile = None
    table: TableFile = None

    def run(self) -> None:
        from jaxalign.eval.files import write_whole
        from jaxalign.eval.paper.output import read_tables
        from jaxalign.eval.report import build_report, prepared_splits
        from jaxalign.eval.tasks.runs import read_runs
        from jaxalign.eval.written_tables import in_order

        with Stages().stage("report", f"Reading the runs in {self.folder}"):
            found, tables = read_runs(self.folder), read_tables(self.folder)
            runs = [run for run in found if run.is_current]
            if not runs and not tables:
                which = "runs of this program" if found else "runs"
                raise JaxalignError(
                    f"there are no {which} in {self.folder}; measure first, for example"
                    f" `jaxalign retrieve --out {self.folder}`"
                )
            out = self.page or self.folder / "report.html"
            check_file(out)
            check_table(self.table)
            page = build_report(runs, tables, title=self.title, find_split=prepared_splits(self.data_dir))
        write_whole(out, page)
        facts = {
            "report": str(out),
            "runs": len(runs),
            "protocols": dict(sorted(Counter(run.protocol for run in runs).items())),
            "tables": [table.title for table in tables],
        }
        write_json(self.json, facts)
        write_table(self.table, in_order(runs))
        earlier = len(found) - len(runs)
        if earlier:
            say(f"of an earlier program, whose numbers may differ, and left out: {counted(earlier, 'run')}")
        say(f"{counted(len(runs), 'run')} and {counted(len(tables), 'printed table')}, written to {out}")
