"""Run one suite in this process: its claims go to a file, one JSON object on a line, and to the terminal."""

import importlib
import json
import sys
import time
from pathlib import Path

from .measure import machine
from .results import row
from .settings import settings


def main(name: str, file: Path) -> None:
    start = time.perf_counter()
    with open(file, "w", encoding="utf-8") as out:
        for claim in importlib.import_module(f"benchmarks.{name}").claims():
            print(row(claim.as_json()), flush=True)
            out.write(json.dumps(claim.as_json()) + "\n")
        about = machine() | ({"quick": True} if settings().quick else {})
        out.write(json.dumps({"machine": about, "seconds": round(time.perf_counter() - start, 1)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
