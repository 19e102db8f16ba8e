"""Run the benchmarks: a table on the terminal, `results.json` and `results.md` beside this file.

Each suite runs in a process of its own. The suites that are run replace their entries in the results and
the others stay; one that fails, or is skipped for want of its references, is reported and keeps its earlier
entry. The exit status is 1 where a suite failed or was skipped, or a claim is below what is promised.

Examples:
  python -m benchmarks
  python -m benchmarks ranking inversion --out /tmp/results.json
  python -m benchmarks papers --isoclip ~/IsoCLIP --reevaluating ~/Is-CLIP-Really-Misaligned
  python -m benchmarks accelerator --out gpu.json
  python -m benchmarks --quick --out /tmp/quick.json
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from . import results
from .settings import Settings

SUITES = ("ranking", "sweep", "few_shot", "inversion", "conversion", "encoding", "reproduce")
PAPERS = "papers"  # needs checkouts: runs where one is given
ACCELERATOR = "accelerator"  # for a machine that has one: runs where it is named
ALL = (*SUITES, PAPERS, ACCELERATOR)
RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Benchmarks:
    """Options of a run."""

    suites: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Which to run; by default all but `accelerator`, and `papers` where there is a checkout."""
    out: Path = RESULTS
    """JSON file; a Markdown table of the same name is written beside it."""
    isoclip: Path | None = None
    """Checkout of github.com/simomagi/IsoCLIP, whose own functions are then timed too."""
    reevaluating: Path | None = None
    """Checkout of github.com/Vision-Kek/Is-CLIP-Really-Misaligned."""
    cross_the_gap: Path | None = None
    """Checkout of github.com/miccunifi/Cross-the-Gap, for its OTI and OVI."""
    quick: bool = False
    """Tiny shapes: whether every suite runs, in seconds. Not with the default --out."""

    @property
    def checkouts(self) -> dict[str, str]:
        given = {
            "isoclip": self.isoclip,
            "reevaluating": self.reevaluating,
            "cross_the_gap": self.cross_the_gap,
        }
        return {name: str(path.absolute()) for name, path in given.items() if path is not None}

    @property
    def chosen(self) -> tuple[str, ...]:
        return self.suites or (*SUITES, *((PAPERS,) if self.checkouts else ()))


def run_suite(name: str, settings: Settings) -> dict[str, Any] | None:
    """The suite's entry for the results, or None where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "claims"
        command = [sys.executable, "-m", "benchmarks.run_suite", name, str(file)]
        status = subprocess.call(command, env=settings.environment(), cwd=Path(__file__).parents[1])
        if status:
            return None
        *claims, about = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {**about, "claims": claims}


def usage_error(options: Benchmarks) -> str:
    """What is wrong with the options; "" where nothing is."""
    unknown = [name for name in options.suites if name not in ALL]
    if unknown:
        return f"no suite {unknown[0]!r}; there are {', '.join(ALL)}"
    if PAPERS in options.suites and not options.checkouts:
        return "papers needs a checkout: --isoclip DIR, --reevaluating DIR or --cross-the-gap DIR"
    if options.quick and options.out == RESULTS:
        return "--quick measures nothing that belongs among the results; say where to write (--out FILE)"
    return ""


def main() -> int:
    options = tyro.cli(Benchmarks, description=__doc__)
    wrong = usage_error(options)
    if wrong:
        print(f"benchmarks: error: {wrong}", file=sys.stderr)
        return 2
    settings, suites = Settings(options.quick, options.checkouts), results.read(options.out)
    trouble: list[str] = []
    for name in options.chosen:
        print(f"== {name}", flush=True)
        entry = run_suite(name, settings)
        if entry is None:
            trouble.append(f"{name} failed")
        elif not entry["claims"]:
            trouble.append(f"{name} was skipped")
        else:
            suites[name] = entry
            missed = [c["name"] for c in entry["claims"] if c["verdict"] == "missed"]
            # Tiny shapes say nothing about speed.
            trouble += [f"below what is promised: {claim}" for claim in missed if not options.quick]
        results.write(options.out, suites, ALL)  # at once: a later suite may be interrupted
    print("\n".join(["", *trouble, f"Wrote {options.out} and {options.out.with_suffix('.md').name}"]))
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
