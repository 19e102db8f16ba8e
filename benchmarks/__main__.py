"""Run the benchmarks: a table on the terminal, `results.json` and `results.md` beside this file.

Examples:
  python -m benchmarks
  python -m benchmarks ranking inversion --out /tmp/results.json
"""

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .measure import Claim, machine

SUITES = ("ranking", "sweep", "few_shot", "inversion", "conversion", "encoding", "reproduce")

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Benchmarks:
    """Options of a run."""

    suites: Annotated[tuple[str, ...], tyro.conf.Positional] = SUITES
    """Which to run."""
    out: Path = RESULTS
    """JSON file; a Markdown table of the same name is written beside it."""


def table(claims: list[Claim]) -> str:
    """The claims as Markdown."""
    rows = ["| claim | ours | reference | ratio | promised | share of peak | compile |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for c in claims:
        unit = f" per {c.unit}" if c.unit else ""
        promised = "" if c.at_least is None else f"{c.at_least:g}x"
        share = "" if c.floor_fraction is None else f"{100 * c.floor_fraction:.0f} %"
        rows.append(
            f"| {c.name} | {duration(c.seconds)}{unit} | {c.reference}: {duration(c.reference_seconds)} |"
            f" {c.ratio:.3g}x | {promised} | {share} | {c.compile_seconds:.1f} s |"
        )
    return "\n".join(rows) + "\n"


def duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def main() -> int:
    options = tyro.cli(Benchmarks, description=__doc__)
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        print(f"benchmarks: error: no suite {unknown[0]!r}; there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    claims: list[Claim] = []
    for name in options.suites:
        for claim in importlib.import_module(f"benchmarks.{name}").claims():
            print(table([claim]).splitlines()[-1], flush=True)
            claims.append(claim)
    content = {"machine": machine(), "claims": [claim.as_json() for claim in claims]}
    options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(table(claims), encoding="utf-8")
    missed = [c.name for c in claims if c.at_least is not None and c.ratio < c.at_least]
    if missed:
        print(f"below what is promised: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
