"""The cost model against XLA's own count, and against the page that quotes it."""

from pathlib import Path

import pytest

from benchmarks import costs, extrapolation, scaling
from benchmarks.compiled import programs
from jaxalign.specs import find_spec

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"


@pytest.mark.long
def test_the_model_counts_the_products_of_the_compiled_programs():
    found = {program.name: program.counted() / program.predicted for program in programs("tiny")}
    # XLA also counts what goes element by element, a larger share the narrower a tower is
    assert not {name: ratio for name, ratio in found.items() if not 1 <= ratio < 1.06}
    assert len(found) == 9


@pytest.mark.long
def test_at_real_sizes_it_is_right_to_one_per_cent():
    found = {}
    for program in programs("real"):  # compiling them takes longer, and changes a tenth of a per cent
        lowered = program.function.lower(*program.arguments, **(program.options or {}))
        found[program.name] = lowered.cost_analysis()["flops"] / program.predicted
    assert not {name: ratio for name, ratio in found.items() if not 1 <= ratio < 1.01}


def test_a_block_by_hand():
    # 3 tokens of width 2, hidden 5, two of them kept, one cached: k, v; q, out; the MLP; scores and values.
    found = costs.block(2, 5, 3, kept=2, cached=1)
    assert found.kernels == 2 * 3 * 2 * 2 * 2 + 2 * 2 * 2 * 2 * 2 + 2 * 2 * 2 * 5 * 2
    assert found.attention == 2 * (2 * 2 * (3 + 1) * 2)
    assert found.forward_and_back == 2 * found.kernels + 3 * found.attention


def test_the_published_size_of_vit_b_32():
    """4.4 GMACs (Dosovitskiy et al., big_vision's tables), the last block on the class token alone."""
    config = find_spec("clip-vit-base-patch32").towers.image
    last = costs.block(768, 3072, 50, kept=50).forward - costs.block(768, 3072, 50, kept=1).forward
    # as printed, with one digit
    assert (costs.image_tower(config).forward + last) / 2e9 == pytest.approx(4.4, abs=0.05)


def test_what_devices_send_is_counts_not_scores():
    alone, shared = (costs.rank(70, 10**6, 512, 100, devices=n) for n in (1, 8))
    assert (alone.sent, alone.collectives) == (0, 0)
    assert shared.flops == alone.flops
    assert shared.collectives == 2
    assert shared.sent == 2 * (2 * 7 / 8) * 70 * 128 * 4  # levels and counts around a ring
    assert shared.sent < 70 * 10**6 * 4 / 1000


def test_floors_are_the_slowest_of_arithmetic_memory_and_links():
    machine = extrapolation.Machine("m", 2, 100, 10, 5, 1000, 4)
    assert machine.seconds(costs.Cost(60, 10)) == (3, "arithmetic")
    assert machine.seconds(costs.Cost(60, 10), "bfloat16") == (1, "memory")
    assert machine.seconds(costs.Cost(60, 10, sent=40)) == (10, "links")


@pytest.mark.parametrize("rows", ["floors", "limits", "approximate"])
def test_the_page_quotes_what_the_code_prints(rows):
    assert scaling.table(getattr(extrapolation, rows)()) in PAGE.read_text(encoding="utf-8")
