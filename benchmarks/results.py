"""`results.json`, an entry for each suite with the machine that it ran on, and all of them as Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMAT = 1
COLUMNS = ("claim", "ours", "reference", "ratio", "promised", "floor", "reached", "compiling")
KEY = """\
*Ratio*: the reference's time divided by ours. *Floor*: what the arithmetic or the memory traffic alone takes
at the machine's measured rates; *reached*: the floor divided by our time. A promise is *out of reach* where
even a program at the floor would miss it on that machine. Times are medians of warm calls, ours and the
reference's in one process tree; *compiling* is what our first call took beyond one."""


def read(file: Path) -> dict[str, Any]:
    """Entries by suite; none where there is no such file."""
    if not file.exists():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    return content["suites"] if content.get("format") == FORMAT else {}


def write(file: Path, suites: dict[str, Any], order: Sequence[str]) -> None:
    """The JSON file, and the table beside it with the suites in `order`."""
    suites = {name: suites[name] for name in order if name in suites}
    content = json.dumps({"format": FORMAT, "suites": suites}, indent=2) + "\n"
    for path, text in ((file, content), (file.with_suffix(".md"), markdown(suites))):
        partial = path.with_name(f".{path.name}")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def markdown(suites: dict[str, Any]) -> str:
    """A table for each machine, which is one where all suites ran on the same."""
    of_machine: dict[str, list[dict[str, Any]]] = {}
    for entry in suites.values():
        of_machine.setdefault(describe(entry["machine"]), []).append(entry)
    parts = []
    for about, entries in of_machine.items():
        rows = [row(claim) for entry in entries for claim in entry["claims"]]
        parts.append("\n".join([f"{about} {rates(entries)}", "", header(), *rows]))
    return "\n\n".join([*parts, KEY]) + "\n"


def describe(machine: dict[str, Any]) -> str:
    """Processor, device and versions."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    where = machine["processor"]
    if machine["device"] not in ("cpu", where):
        where = f"{machine['device']}, {where}"
    quick = " **Tiny shapes: no time means anything.**" if machine.get("quick") else ""
    return f"{where}, {machine['cores']} cores; Python {machine['python']}, {versions}.{quick}"


def rates(entries: list[dict[str, Any]]) -> str:
    """The measured peaks, which differ a little from one suite's process to the next."""

    def between(name: str) -> str:
        found = sorted(entry["machine"][name] for entry in entries)
        low, high = f"{found[0]:.3g}", f"{found[-1]:.3g}"
        return low if low == high else f"{low} to {high}"

    return (
        f"Measured: {between('matmul_gflops')} GFLOP/s in float32 matrix products,"
        f" {between('memory_gb_per_second')} GB/s from memory."
    )


def header() -> str:
    return f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def row(claim: dict[str, Any]) -> str:
    """A claim, as `Claim.as_json` gives it, as a line of the table."""
    show = size if claim["quantity"] == "bytes" else duration
    unit = f" per {claim['unit']}" if claim["unit"] else ""
    floor, reached = claim["floor_seconds"], claim["floor_fraction"]
    compiling = claim["compile_seconds"]
    cells = (
        claim["name"],
        show(claim["seconds"]) + unit,
        f"{claim['reference']}: {show(claim['reference_seconds'])}",
        f"{claim['ratio']:.3g}x",
        promise(claim),
        "" if floor is None else show(floor),
        "" if reached is None else f"{100 * reached:.0f} %",
        f"{compiling:.1f} s" if compiling >= 0.05 else "",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def promise(claim: dict[str, Any]) -> str:
    """The promised ratio and what became of it."""
    if claim["at_least"] is None:
        return ""
    text = f"{claim['at_least']:.3g}x, {claim['verdict']}"
    return text + (f": at most {claim['ceiling']:.3g}x" if claim["verdict"] == "out of reach" else "")


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def size(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"
