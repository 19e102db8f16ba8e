"""The harness itself: every way to go wrong is noticed, survived and told from the others."""

import random
from collections import Counter
from pathlib import Path

import pytest

from .campaign import Campaign, make_case, smaller
from .mutant import Mutant, Part
from .sandbox import Sandbox
from .targets import BY_NAME, Target

pytestmark = pytest.mark.long
SECONDS = 1.0
WRONG = {
    "nothing": ("read", ""),
    "raise a file that is damaged": ("refused", "misbehave"),
    "raise one line\nand another": ("message", "misbehave"),
    "divide": ("exception", "ZeroDivisionError"),
    "crash": ("crash", "status -11"),
    "hang": ("time", ""),
    "execute": ("forbidden", ""),
    "create": ("forbidden", ""),
    "memory": ("memory", ""),
    "refused memory": ("memory", ""),
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(seconds=SECONDS) as sandbox:
        yield sandbox


@pytest.mark.parametrize("how", WRONG)
def test_what_goes_wrong_is_told_and_the_next_file_is_read(how, sandbox):
    outcome = sandbox.run("misbehave", sandbox.prepare({"how": b"nothing"}))
    assert outcome.kind == "read"  # and what the reader imports is imported
    outcome = sandbox.run("misbehave", sandbox.prepare({"how": how.encode()}))
    kind, place = WRONG[how]
    assert (outcome.kind, place in outcome.place) == (kind, True), outcome


def test_a_campaign_counts_saves_and_leaves_out_what_costs_too_much(sandbox, tmp_path):
    seeds = [Part("how", b"nothing"), Part("how", b"divide"), Part("how", b"crash")]

    def mutate(rng, parts):
        part = rng.choice(parts)
        return Mutant(part.content.decode(), Part(part.name, part.content))

    target = Target("made up", "misbehave", 1, dict, lambda: seeds, mutate)
    campaign = Campaign(target, sandbox, tmp_path)
    result = campaign.run(seed=1, numbers=range(40), deadline=float("inf"))
    drawn = Counter(make_case(target, 1, number).kind for number in range(40))
    counts = {"read": drawn["nothing"], "exception": drawn["divide"], "crash": result.outcomes["crash"]}
    assert result.outcomes == counts
    assert 3 <= counts["crash"] <= 5 < drawn["crash"]
    assert result.skipped == {"crash": drawn["crash"] - counts["crash"]}
    found = {finding.outcome.kind: finding for finding in result.findings.values()}
    assert found["exception"].count == drawn["divide"]
    (saved,) = tmp_path.rglob("exception-*/how")
    assert saved.read_bytes() == b"divide"
    assert make_case(target, 1, found["exception"].number).part.content == b"divide"
    assert not list(campaign.folder.iterdir())


def test_a_file_is_made_smaller_while_it_shows_the_same():
    content = bytes(range(200))
    assert smaller(content, lambda x: b"\x21" in x and b"\x80" in x, tries=200) == b"\x21\x80"
    assert smaller(content, lambda x: False, tries=200) == content


@pytest.mark.parametrize(
    "name", ["torch-zip", "torch-legacy", "safetensors", "ground-truth", "images", "store"]
)
def test_cases_are_those_of_their_seed_and_number(name):
    target = BY_NAME[name]
    made = [make_case(target, 7, number) for number in range(12)]
    assert made == [make_case(target, 7, number) for number in range(12)]
    assert made != [make_case(target, 8, number) for number in range(12)]
    valid = {part.content for part in target.seeds()}
    assert sum(mutant.part.content not in valid for mutant in made) > 8
    names = {part.name for part in target.seeds()}
    assert all(mutant.part.name in names or Path(mutant.part.name).stem == "image" for mutant in made)


def test_random_pickles_are_programs_that_end():
    """What the generator builds is not thrown out at its first operation."""
    import pickletools

    from .pickle_values import value

    rng = random.Random(0)
    whole = 0
    for _ in range(200):
        try:
            list(pickletools.genops(b"\x80\x04" + value(rng, 2) + b"."))
            whole += 1
        except ValueError:
            pass
    assert whole > 120
