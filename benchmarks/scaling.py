"""The tables of docs/scaling.md: the cost model, checked, measured on virtual devices, and extrapolated.

Examples:
  python -m benchmarks.scaling
  python -m benchmarks.scaling --measure False
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

DEVICES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Scaling:
    """Print the tables as Markdown."""

    measure: bool = True
    """Whether to run on virtual devices, which takes minutes; the other tables are computed."""


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Markdown; the first row is the header."""
    header, *rest = rows
    lines = [header, ("---",) * len(header), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def analysed() -> Iterator[tuple[str, ...]]:
    """The model against XLA's own count of the compiled programs, at real sizes."""
    from .compiled import programs

    yield ("program", "model, FLOP", "XLA, FLOP", "XLA / model")
    for program in programs("real"):
        counted = program.counted()
        yield (
            program.name,
            f"{program.predicted:.4g}",
            f"{counted:.4g}",
            f"{counted / program.predicted:.4f}",
        )


def measured() -> Iterator[tuple[str, ...]]:
    """Seconds on 1, 2, 4 and 8 virtual devices, how far results are apart, and the collectives."""
    from .results import duration

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in DEVICES:
            flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
            file = Path(folder) / f"{count}.npz"
            command = [sys.executable, "-m", "benchmarks.workloads", str(file)]
            subprocess.run(command, env=os.environ | flags, cwd=Path(__file__).parents[1], check=True)
            facts = json.loads(file.with_suffix(".json").read_text())
            with np.load(file, allow_pickle=False) as arrays:
                found.append((facts, {name: arrays[name] for name in arrays.files}))
    yield (
        "work",
        *(f"{n} device{'s' if n > 1 else ''}" for n in DEVICES),
        "largest difference",
        f"collectives on {DEVICES[-1]}",
    )
    for name in found[0][1]:
        values = [arrays[name] for _, arrays in found]
        apart = max(float(np.abs(x - values[0]).max()) for x in values)
        kinds = found[-1][0][name]["collectives"]
        yield (
            name,
            *(duration(facts[name]["seconds"]) for facts, _ in found),
            f"{apart:.1e}" if apart else "none",
            ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none",
        )


def tables(measure: bool) -> Iterator[tuple[str, Callable[[], Iterable[tuple[str, ...]]]]]:
    from . import extrapolation

    yield "The model against XLA's count", analysed
    if measure:
        yield "Virtual devices", measured
    yield "Floors on other machines", extrapolation.floors
    yield "What exact ranking can do", extrapolation.limits
    yield "Exact and approximate", extrapolation.approximate


def main() -> None:
    options = tyro.cli(Scaling, description=__doc__)
    for title, rows in tables(options.measure):
        print(f"{title}\n\n{table(rows())}\n", flush=True)


if __name__ == "__main__":
    main()
