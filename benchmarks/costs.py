"""What encoding, inversion, ranking and sweeps cost: floating-point operations, bytes, collectives.

Functions of shapes alone. FLOPs are those of matrix products, a multiply-add counting as two; what goes
element by element (LayerNorm, softmax, activations, Adam) is left out, some per cent in a tower. Bytes are
the least that must pass between memory and processor. Both are totals over all devices; `sent` is what one
device has to send to others.
"""

from dataclasses import dataclass

from jaxalign.models import ImageTowerConfig, TextTowerConfig

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Cost:
    """Of one piece of work.

    Attributes:
      flops: of matrix products.
      bytes: read from or written to memory at least once.
      compared: scores compared with the score of a positive, and counted.
      sent: bytes that each device sends, with the number of collectives that send them.
      collectives: how many there are, one after the other.
    """

    flops: float
    bytes: float
    compared: float = 0.0
    sent: float = 0.0
    collectives: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.compared + other.compared,
            self.sent + other.sent,
            self.collectives + other.collectives,
        )


@dataclass(frozen=True)
class Products:
    """FLOPs of a tower for one example: products with kernels, and attention's products of activations."""

    kernels: float
    attention: float

    @property
    def forward(self) -> float:
        return self.kernels + self.attention

    @property
    def forward_and_back(self) -> float:
        """With the gradient for the input: one product more for a kernel, two for two activations."""
        return 2 * self.kernels + 3 * self.attention

    def __add__(self, other: "Products") -> "Products":
        return Products(self.kernels + other.kernels, self.attention + other.attention)

    def times(self, count: int) -> "Products":
        return Products(self.kernels * count, self.attention * count)


def block(width: int, hidden: int, tokens: int, *, kept: int, cached: int = 0, gates: int = 0) -> Products:
    """One transformer block in which `tokens` are keys and values and `kept` of them go on.

    `cached` keys and values are there already; `gates` more kernels of the MLP's shape (SwiGLU has one).
    """
    kernels = 4 * tokens * width**2 + 4 * kept * width**2 + (4 + 2 * gates) * kept * width * hidden
    return Products(kernels, 4 * kept * (tokens + cached) * width)


def image_tower(c: ImageTowerConfig, *, patches: bool = True) -> Products:
    """One image; without `patches`, from their embeddings on, as OVI enters."""
    tokens = c.num_patches + c.num_prefix
    plain = block(c.width, c.mlp_hidden, tokens, kept=tokens, gates=c.gated_mlp)
    kept = tokens if c.pooling == "map" else 1
    last = block(c.width, c.mlp_hidden, tokens, kept=kept, gates=c.gated_mlp)
    total = plain.times(c.depth - 1) + last
    if c.pooling == "map":  # one query, then a residual MLP
        total += block(c.width, c.mlp_hidden, tokens, kept=1)
    embed = 2 * c.num_patches * 3 * c.patch_size**2 * c.width if patches else 0
    return total + Products(embed + 2 * c.width * (c.projection or 0), 0)


def text_tower(c: TextTowerConfig) -> Products:
    """One text."""
    plain = block(c.width, c.mlp_hidden, c.context, kept=c.context)
    last = plain if c.causal else block(c.width, c.mlp_hidden, c.context, kept=1)
    return plain.times(c.depth - 1) + last + Products(2 * c.width * c.projection, 0)


def text_path(c: TextTowerConfig, before: int, count: int, after: int) -> Products:
    """One prompt with `count` pseudo-tokens, as OTI computes it: no token that no step changes.

    In a causal tower `before` tokens are cached; in a bidirectional one only the first block's queries, keys
    and values of the others are constant.
    """
    live, cached = (count + after, before) if c.causal else (before + count + after, 0)
    plain = block(c.width, c.mlp_hidden, live, kept=live, cached=cached)
    last = block(c.width, c.mlp_hidden, live, kept=1, cached=cached)
    constant = Products(6 * (live - count) * c.width**2, 0)
    total = plain.times(c.depth - 1) + last + Products(2 * c.width * c.projection, 0)
    return total + constant.times(-1)


def encode(c: ImageTowerConfig, parameters: int, images: int, batch: int, *, size: int = FLOAT) -> Cost:
    """Images through the tower in batches; its `parameters` of `size` bytes are read once for each."""
    pixels = images * 3 * c.image_size**2 * FLOAT
    batches = -(-images // batch)
    return Cost(image_tower(c).forward * images, pixels + batches * parameters * size)


def invert(
    products: Products, parameters: int, examples: int, batch: int, steps: int, devices: int = 1
) -> Cost:
    """OTI or OVI: `steps` updates, one evaluation more, and the agreement of the devices on going on."""
    evaluations = (steps + 1) * -(-examples // batch)
    flops = products.forward_and_back * examples * (steps + 1)
    once = Cost(flops, 2 * evaluations * parameters * FLOAT)  # forward and back
    return once if devices == 1 else once + Cost(0, 0, sent=evaluations, collectives=evaluations)


def rank(
    queries: int,
    items: int,
    width: int,
    positives: int,
    *,
    size: int = FLOAT,
    block: int | None = None,
    devices: int = 1,
) -> Cost:
    """Cosine scores of all pairs, the gallery of `size` bytes a number read once for each block of queries.

    On one device the scores are sorted. Over several, each has a part of the gallery: each score is compared
    with those of the query's `positives`; they and the counts are summed, and no score is gathered.
    """
    blocks = -(-queries // (block or queries))
    flops, read = 2.0 * queries * items * width, float(blocks * items * width * size)
    if devices == 1:
        return Cost(flops, read)
    listed = table_width(positives)
    table = queries * listed * 4  # float32 levels, int32 counts
    sent = 2 * all_reduce(table, devices)
    return Cost(flops, read, queries * float(items) * listed, sent, collectives=2 * blocks)


def table_width(positives: int) -> int:
    """Columns of the tables that devices share, the next of 8, 32, 128, ... (`ranking.rank_counts`)."""
    width = 8
    while width < positives:
        width *= 4
    return width


def sweep(
    queries: int,
    items: int,
    width: int,
    directions: int,
    grid: tuple[int, int],
    step: int,
    positives: int,
    *,
    block: int | None = None,
    devices: int = 1,
) -> Cost:
    """A grid of bands, `k_top` by `k_bottom`, of `directions`, as `sweep_bands` computes it.

    For each start and each block of queries the narrowest band as a whole, then every band as an update of
    rank 2 `step` of the one before it (`jaxalign.band_precision`); each band's scores are written, read, and
    compared with those of the positives. Over several devices each has a part of the gallery; per band the
    scores of the positives and of the query itself, in one sum as compiled, and the counts are summed.
    """
    starts, stops = grid
    bands, blocks = starts * stops, -(-queries // (block or queries))
    rows, pairs = queries + blocks * items, float(queries) * items  # the gallery's part once for each block
    whole = 2.0 * rows * directions * width + 2.0 * pairs * width
    # Wider embeddings, their products with the new directions, and the scores.
    update = 2.0 * 2 * rows * step * width + 2.0 * pairs * 2 * step
    found = Cost(
        starts * whole + bands * update, (starts + 3 * bands) * pairs * FLOAT, bands * pairs * positives
    )
    if devices == 1:
        return found
    tables = all_reduce(queries * (2 * positives + 1) * 4, devices)
    return found + Cost(0, 0, sent=bands * tables, collectives=2 * bands * blocks)


def all_reduce(size: float, devices: int) -> float:
    """Bytes that each device of a ring sends to sum `size` bytes over all."""
    return 2 * (devices - 1) / devices * size
