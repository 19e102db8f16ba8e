"""The least time that work takes on machines that were not at hand, and where exact ranking ends.

Rates are those of the makers' data sheets, so times are floors: no program reaches them. What ours reach of
the floor of a machine that was at hand stands in the results of the benchmarks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from . import costs
from .compiled import CLIP
from .costs import Cost

HALF = 2  # bytes of a number of a stored gallery in float16
USABLE = 0.8  # of a device's memory: the rest is for scores and programs


@dataclass(frozen=True)
class Machine:
    """Rates of one device, and how many there are.

    Attributes:
      bfloat16: FLOP/s of dense products.
      float32: FLOP/s of products at the highest precision.
      bandwidth: bytes/s of its memory.
      memory: bytes.
      link: bytes/s that it sends to other devices.
    """

    name: str
    devices: int
    bfloat16: float
    float32: float
    bandwidth: float
    memory: float
    link: float

    def seconds(self, cost: Cost, dtype: str = "float32") -> tuple[float, str]:
        """The floor, and what it is of: arithmetic, memory or links."""
        parts = {
            "arithmetic": cost.flops / (self.devices * getattr(self, dtype)),
            "memory": cost.bytes / (self.devices * self.bandwidth),
            "links": cost.sent / self.link,
        }
        bound = max(parts, key=lambda name: parts[name])
        return parts[bound], bound

    @property
    def vectors(self) -> float:
        """Bytes of a gallery that fits."""
        return USABLE * self.devices * self.memory


# NVIDIA H100 SXM data sheet; float32 outside tensor cores. Google Cloud TPU v5e page; float32 at the highest
# precision is six products in bfloat16 there. Links: NVLink 4 in one direction; ICI of a chip in all.
H100 = Machine("H100", 1, 989e12, 67e12, 3.35e12, 80e9, 450e9)
V5E_16 = Machine("v5e-16", 16, 197e12, 197e12 / 6, 819e9, 16e9, 200e9)
MACHINES = (H100, V5E_16)


@dataclass(frozen=True)
class Work:
    """What a table or a gallery asks for.

    Attributes:
      cost: on a number of devices.
      held: bytes of the gallery, which has to fit; 0 where there is none.
    """

    name: str
    dtype: str
    held: float = 0.0

    def cost(self, devices: int) -> Cost:
        return _COSTS[self.name](devices)


TEXT_PARAMETERS = 38_131_200  # of ViT-B/32's text tower without its vocabulary, of which OTI reads no row
IMAGE_PARAMETERS = 87_849_216
_OTI = costs.text_path(CLIP.text, 4, 1, 1)
_OVI = costs.image_tower(CLIP.image, patches=False)
_COSTS = {
    "encode 1,281,167 images, ViT-B/32": lambda devices: costs.encode(
        CLIP.image, IMAGE_PARAMETERS, 1_281_167, 256 * devices, size=HALF
    ),
    "OTI, 10,000 images, 150 steps": lambda devices: costs.invert(
        _OTI, TEXT_PARAMETERS, 10_000, 256 * devices, 150, devices
    ),
    "OVI, 10,000 texts, 1,000 steps": lambda devices: costs.invert(
        _OVI, IMAGE_PARAMETERS, 10_000, 256 * devices, 1000, devices
    ),
    "sweep, 26 x 16 bands, 2,465 x 4,128": lambda devices: costs.sweep(
        2465, 4128, 512, 512, (26, 16), 16, 41, block=1270, devices=devices
    ),
    "rank 70 x 1,000,000": lambda devices: costs.rank(70, 10**6, 512, 100, size=HALF, devices=devices),
    "rank 10,000 x 1,000,000": lambda devices: costs.rank(
        10_000, 10**6, 512, 100, size=HALF, block=1024, devices=devices
    ),
    "rank 70 x 100,000,000": lambda devices: costs.rank(70, 10**8, 512, 100, size=HALF, devices=devices),
    "rank 70 x 1,000,000,000": lambda devices: costs.rank(70, 10**9, 512, 100, size=HALF, devices=devices),
}
WORK = tuple(
    Work(name, "bfloat16" if name.startswith("encode") else "float32", held)
    for name, held in zip(_COSTS, (0, 0, 0, 0, *(n * 512 * HALF for n in (1e6, 1e6, 1e8, 1e9))), strict=True)
)


def floors() -> Iterator[tuple[str, ...]]:
    """Rows of the table: work, FLOPs, bytes, the floor on each machine, what the last one's devices send."""
    yield (
        "work",
        "FLOP",
        "bytes",
        *(f"{m.name}, at least" for m in MACHINES),
        f"one of {MACHINES[-1].devices} sends",
        "in collectives",
    )
    for work in WORK:
        cells = []
        for machine in MACHINES:
            seconds, bound = machine.seconds(work.cost(machine.devices), work.dtype)
            fits = work.held <= machine.vectors
            cells.append(f"{show(seconds)} ({bound})" if fits else f"does not fit: {copies(work, machine)}")
        one, many = work.cost(1), work.cost(MACHINES[-1].devices)
        sent = bytes_(many.sent) if many.sent else "nothing"
        yield (work.name, f"{one.flops:.2e}", f"{one.bytes:.2e}", *cells, sent, f"{many.collectives:,}")


def copies(work: Work, machine: Machine) -> str:
    """How many of such machines hold the gallery."""
    return f"{-(-work.held // machine.vectors):.0f} of them do"


def limits(width: int = 512, size: int = HALF, patience: float = 0.01) -> Iterator[tuple[str, ...]]:
    """Rows of the table of what exact ranking can do on each machine.

    How many vectors fit; how many one query can be compared with in `patience` seconds, which is reading them
    once; and how many queries have to come together until arithmetic takes longer than reading.
    """
    yield (
        "machine",
        "fit in memory",
        f"read within {1e3 * patience:.0f} ms",
        "queries until arithmetic counts",
    )
    for m in MACHINES:
        read = m.devices * m.bandwidth * patience / (width * size)
        queries = m.float32 * size / (2 * m.bandwidth)
        yield (m.name, f"{m.vectors / (width * size):.2e}", f"{read:.2e}", f"{queries:.0f}")


def index_bytes(items: float, code: int, lists: int, width: int) -> float:
    """Memory of FAISS's `IVF{lists},PQ{code}`: codes, ids of eight bytes, centroids."""
    return items * (code + 8) + lists * width * 4


def index_read(items: float, code: int, lists: int, probes: int, width: int) -> float:
    """Bytes that one query reads of it: all centroids, and the codes and ids of `probes` lists."""
    return lists * width * 4 + items * probes / lists * (code + 8)


def approximate(width: int = 512) -> Iterator[tuple[str, ...]]:
    """Rows of the table of exact against approximate search."""
    yield ("gallery", "exact, float16", "IVF, PQ64", "read for one query: exact", "16 lists probed")
    for items, lists in ((10**6, 4096), (10**8, 32768), (10**9, 131072)):
        exact = items * width * HALF
        yield (
            f"{items:,}",
            bytes_(exact),
            f"{bytes_(index_bytes(items, 64, lists, width))}, {lists:,} lists",
            bytes_(exact),
            bytes_(index_read(items, 64, lists, 16, width)),
        )


def bytes_(count: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def show(seconds: float) -> str:
    for unit, scale in (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"
