"""Timing one claim: ours and its reference in turn, in one process, against what the machine can do."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from .settings import pick

Verdict = Literal["", "kept", "missed", "out of reach"]


@dataclass(frozen=True)
class Claim:
    """One measured claim; seconds are medians.

    Attributes:
      name: what is measured, with its shape.
      seconds: ours, warm.
      compile_seconds: of our first call beyond a warm one.
      reference: what it is compared with.
      reference_seconds: of the reference.
      at_least: the ratio `reference_seconds / seconds` that is promised; None where none is.
      flops: floating-point operations that the result cannot do without; None where bytes are the floor.
      bytes: bytes that must be read from or written to memory at least once.
      unit: what one "per" is, where seconds are divided by a count ("image and step"); "" for a whole call.
      dtype: of the products that `flops` counts.
      quantity: "seconds", or "bytes" where `seconds` and `reference_seconds` hold bytes of memory.
    """

    name: str
    seconds: float
    compile_seconds: float
    reference: str
    reference_seconds: float
    at_least: float | None = None
    flops: float | None = None
    bytes: float | None = None
    unit: str = ""
    dtype: str = "float32"
    quantity: Literal["seconds", "bytes"] = "seconds"

    @property
    def ratio(self) -> float:
        return self.reference_seconds / self.seconds

    @property
    def floor_seconds(self) -> float | None:
        """What the arithmetic or the memory traffic alone takes at the machine's measured peaks."""
        floors = []
        if self.flops is not None:
            floors.append(self.flops / matmul_peak(self.dtype))
        if self.bytes is not None:
            floors.append(self.bytes / memory_peak())
        return max(floors) if floors else None

    @property
    def floor_fraction(self) -> float | None:
        """The share of the machine's measured peak, of matrix products or of memory, that ours reaches."""
        return None if self.floor_seconds is None else self.floor_seconds / self.seconds

    @property
    def ceiling(self) -> float | None:
        """The ratio that a program at the machine's peak would have: no other one can exceed it."""
        return None if not self.floor_seconds else self.reference_seconds / self.floor_seconds

    @property
    def verdict(self) -> Verdict:
        """Whether the promise is kept; "out of reach" only where the floor alone exceeds it here."""
        if self.at_least is None:
            return ""
        if self.ratio >= self.at_least:
            return "kept"
        return "out of reach" if self.ceiling is not None and self.ceiling < self.at_least else "missed"

    def as_json(self) -> dict[str, Any]:
        derived = ("ratio", "floor_seconds", "floor_fraction", "ceiling", "verdict")
        return asdict(self) | {name: getattr(self, name) for name in derived}


class Pair(NamedTuple):
    """Medians of warm calls, and what our first call took beyond one (compilation)."""

    seconds: float
    reference_seconds: float
    compile_seconds: float


def pair(
    ours: Callable[[], Any], reference: Callable[[], Any], *, repeats: int = 5, budget: float = 20.0
) -> Pair:
    """Time ours and its reference by turns, so that whatever else the machine does slows both."""
    (first, theirs), (compiling, _) = interleaved([ours, reference], repeats=repeats, budget=budget)
    return Pair(first, theirs, compiling)


def interleaved(
    functions: Sequence[Callable[[], Any]], *, repeats: int = 5, budget: float = 20.0
) -> tuple[list[float], list[float]]:
    """Median seconds of warm calls of each function, and what its first call took beyond that.

    After one call of each, rounds of one call of each: `repeats` rounds, or as many as `budget` seconds
    allow, but at least one.
    """
    first = [_timed(function) for function in functions]
    rounds: list[list[float]] = []
    while len(rounds) < pick(repeats, 1) and (not rounds or sum(map(sum, rounds)) < budget):
        rounds.append([_timed(function) for function in functions])
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return medians, [max(f - m, 0.0) for f, m in zip(first, medians, strict=True)]


def seconds(function: Callable[[], Any], *, repeats: int = 5, budget: float = 20.0) -> tuple[float, float]:
    """Median seconds of a warm call, and what the first call took beyond that (compilation).

    Stops after `budget` seconds of warm calls, but not before one of them. Results are waited for.
    """
    (median,), (compiling,) = interleaved([function], repeats=repeats, budget=budget)
    return median, compiling


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


@cache
def matmul_peak(dtype: str = "float32") -> float:
    """FLOP/s of a product of two 4096 x 4096 matrices, fp32 at the highest precision; the best of some."""
    n = pick(4096, 512)
    x = jnp.ones((n, n), dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    return 2 * n**3 / _fastest(lambda: product(x, x))


@cache
def memory_peak() -> float:
    """Bytes/s of reading 1 GiB of fp32 once (a sum along rows); the best of some."""
    x = jnp.ones((pick(2**18, 2**12), 2**10), jnp.float32)
    total = jax.jit(lambda a: a.sum(axis=1))
    return x.nbytes / _fastest(lambda: total(x))


def _fastest(function: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest call: a peak that is measured too low would excuse what is slow."""
    return min(_timed(function) for _ in range(pick(repeats, 1) + 1))


def machine() -> dict[str, Any]:
    """What the figures were measured on and with."""
    packages = ("jaxalign", "jax", "jaxlib", "flax", "numpy", "torch", "torchmetrics", "transformers")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": str(jax.devices()[0].device_kind),
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := _version(name))},
        "matmul_gflops": matmul_peak() / 1e9,
        "memory_gb_per_second": memory_peak() / 1e9,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
