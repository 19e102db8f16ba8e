"""What a run of the benchmarks hands down to the processes that it starts, by way of the environment."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

_VARIABLE = "JAXALIGN_BENCHMARKS"
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Options that concern every suite.

    Attributes:
      quick: tiny shapes: whether everything runs, not how fast.
      checkouts: folder of each checkout of a paper's repository, by its name in `benchmarks.checkouts`.
    """

    quick: bool = False
    checkouts: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """This process's environment with the settings in it."""
        return os.environ | {_VARIABLE: json.dumps(asdict(self))}


def settings() -> Settings:
    """Those of this run."""
    return Settings(**json.loads(os.environ.get(_VARIABLE, "{}")))


def pick(full: T, quick: T) -> T:
    """A size to measure at, and its tiny stand-in for `--quick`."""
    return quick if settings().quick else full
