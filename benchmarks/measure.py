"""Timing one claim: ours and its reference in turn, in one process, against what the machine can do."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import jax.numpy as jnp


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

    @property
    def ratio(self) -> float:
        return self.reference_seconds / self.seconds

    @property
    def floor_fraction(self) -> float | None:
        """The share of the machine's measured peak, of matrix products or of memory, that ours reaches."""
        floors = []
        if self.flops is not None:
            floors.append(self.flops / matmul_peak())
        if self.bytes is not None:
            floors.append(self.bytes / memory_peak())
        return max(floors) / self.seconds if floors else None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "floor_fraction": self.floor_fraction}


def seconds(function: Callable[[], Any], *, repeats: int = 5, budget: float = 20.0) -> tuple[float, float]:
    """Median seconds of a warm call, and what the first call took beyond that (compilation).

    Stops after `budget` seconds of warm calls, but not before one of them. Results are waited for.
    """
    first = _timed(function)
    times: list[float] = []
    while len(times) < repeats and (not times or sum(times) < budget):
        times.append(_timed(function))
    median = statistics.median(times)
    return median, max(first - median, 0.0)


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


@cache
def matmul_peak() -> float:
    """FLOP/s of an fp32 product of two 4096 x 4096 matrices at the highest precision, measured."""
    n = 4096
    x = jnp.ones((n, n), jnp.float32)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    return 2 * n**3 / seconds(lambda: product(x, x), repeats=3)[0]


@cache
def memory_peak() -> float:
    """Bytes/s of reading 1 GiB of fp32 once (a sum along rows), measured."""
    x = jnp.ones((2**18, 2**10), jnp.float32)
    total = jax.jit(lambda a: a.sum(axis=1))
    return x.nbytes / seconds(lambda: total(x), repeats=3)[0]


def machine() -> dict[str, Any]:
    """What the figures were measured on and with."""
    packages = ("jaxalign", "jax", "flax", "numpy", "torch", "transformers")
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
