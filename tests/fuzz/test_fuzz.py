"""Hostile files for every reader: `pytest -m fuzz` runs 10,000 of them (`pytest --help` has the options)."""

import time
from pathlib import Path

import pytest

from .campaign import Campaign
from .sandbox import Sandbox
from .targets import TARGETS, Target

pytestmark = pytest.mark.fuzz
ALL = sum(target.weight for target in TARGETS)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_hostile_file_is_read_or_refused_in_one_line(
    target: Target, sandbox, pytestconfig, record_property
):
    option = pytestconfig.getoption
    seed, only = option("--fuzz-seed"), option("--fuzz-case")
    campaign = Campaign(target, sandbox, Path(option("--fuzz-out")))
    sound = campaign.sound()
    assert not {name: outcome for name, outcome in sound.items() if outcome.is_finding}
    assert sum(outcome.kind == "read" for outcome in sound.values()) > len(sound) / 2, sound
    count = -(-option("--fuzz-cases") * target.weight // ALL)
    share = option("--fuzz-seconds") * target.weight / ALL
    numbers = range(count) if only is None else range(only, only + 1)
    result = campaign.run(seed, numbers, time.monotonic() + share)
    said = ", ".join(f"{kind} {n}" for kind, n in result.outcomes.most_common())
    rate = result.cases / max(result.seconds, 1e-9)
    not_run = f"; not run: {dict(result.skipped)}" if result.skipped else ""
    speed = f"{rate:.0f} a second, slowest {result.slowest:.1f} s"
    line = f"{target.name}: {result.cases} cases, {speed}; {said}{not_run}"
    record_property("fuzz", line)
    again = f"pytest -m fuzz -n 0 -k '[{target.name}]' --fuzz-seed {seed} --fuzz-case {{number}}"
    if result.findings:
        listed = "\n".join(finding.describe(again) for finding in result.findings.values())
        pytest.fail(f"{line}\n{len(result.findings)} findings:\n{listed}", pytrace=False)
