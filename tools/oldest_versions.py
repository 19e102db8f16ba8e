"""Print pip constraints that choose the oldest version of everything that pyproject.toml admits.

The lower bounds are written in one place only, and tested there:

  python tools/oldest_versions.py > oldest.txt && pip install -c oldest.txt -e '.[test]'
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def constraints(requirements: Sequence[str]) -> list[str]:
    """`NAME==VERSION`, with its marker, for each `NAME>=VERSION`; raises ValueError for anything else."""
    oldest = []
    for requirement in requirements:
        found = re.fullmatch(r"([\w.-]+)>=([\w.]+)(;.*)?", requirement.replace(" ", ""))
        if found is None:
            raise ValueError(f"got {requirement!r} in pyproject.toml; expected NAME>=VERSION")
        name, version, _ = found.groups()
        marker = requirement.partition(";")[2]
        oldest.append(f"{name}=={version}" + (f" ;{marker}" if marker else ""))
    return oldest


def main() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    print(*constraints([*project["dependencies"], *project["optional-dependencies"]["test"]]), sep="\n")


if __name__ == "__main__":
    main()
