"""What a chart is made of: axes, ticks, traces and stripes, in the pixels of its drawing."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 44  # margins around the plot, for ticks and titles
SERIES = ("one", "two", "three", "four", "five", "six")  # roles of traces beside each other

Axis = Callable[[float], float]


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Trace:
    """A line, a filled area or dots; `role` is the CSS class that colours it."""

    name: str
    points: str
    role: str
    filled: bool = False
    dots: bool = False

    @property
    def path(self) -> str:
        """The points as a path of lines of no length, which round ends turn into dots."""
        return "".join(f"M{point}h0" for point in self.points.split())


@dataclass(frozen=True)
class Span:
    """A vertical stripe over part of the x axis, such as a band."""

    name: str
    x: float
    width: float
    role: str


@dataclass(frozen=True)
class Chart:
    title: str
    x_title: str
    y_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    traces: list[Trace]
    spans: list[Span] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def axis(low: float, high: float, start: float, stop: float) -> Axis:
    """The linear map of `[low, high]` to pixels `[start, stop]`."""
    scale = (stop - start) / ((high - low) or 1)
    return lambda value: float(start + (value - low) * scale)


def x_axis(low: float, high: float) -> Axis:
    """The linear map to the plot's width."""
    return axis(low, high, LEFT, WIDTH - RIGHT)


def y_axis(low: float, high: float) -> Axis:
    """The linear map to the plot's height, upwards."""
    return axis(low, high, HEIGHT - BOTTOM, TOP)


def log_axis(low: float, high: float) -> Axis:
    """The logarithmic map of `[low, high]`, both above zero, to the plot's height, upwards."""
    linear = y_axis(math.log(low), math.log(high))
    return lambda value: linear(math.log(value))


def place(x: Axis, y: Axis, xs: Iterable[float], ys: Iterable[float]) -> str:
    """Points as SVG writes them."""
    return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))


def ticks(low: float, high: float, where: Axis, form: str = "{:g}") -> list[Tick]:
    """About six ticks at multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 6 or 1
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [Tick(where(v), form.format(v)) for v in (round(i * step, 12) for i in range(first, last + 1))]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in between, or where they are fewer than three also 2 and 5 times those."""
    powers = [10.0**p for p in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    found = [v for v in powers if low <= v <= high]
    return found if len(found) >= 3 else [m * p for p in powers for m in (1, 2, 5) if low <= m * p <= high]


def finite_range(values: Iterable[np.ndarray], margin: float = 0.05) -> tuple[float, float]:
    """The lowest and the highest finite value with a margin; 0 to 1 where there is none."""
    every = np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in values])
    every = every[np.isfinite(every)]
    if not every.size:
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    space = margin * (high - low or abs(high) or 1.0)
    return low - space, high + space
