"""Many cases of one target: run, sort by what went wrong, make the files small and save them."""

import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .mutant import Mutant, Part
from .sandbox import Outcome, Sandbox, write
from .targets import Target

ENOUGH = 3  # cases of one kind that cost a worker: from then on, each leaves a quarter of its kind to be run
SMALLER = 60  # attempts to make a file smaller; a hundredth of that where each costs a worker


@dataclass
class Finding:
    """One fault: the smallest file that shows it, and in how many cases it did."""

    number: int
    mutant: Mutant
    outcome: Outcome
    count: int = 1
    path: Path | None = None

    def describe(self, again: str) -> str:
        said = self.outcome.detail.strip().splitlines()
        first = said[0 if self.outcome.kills else -1] if said else ""
        size = len(self.mutant.part.content)
        return (
            f"{self.outcome.kind}: {self.outcome.place}"
            f" ({self.count} cases; {self.mutant.kind}, {size} bytes)\n"
            f"    {first:.300}\n    {self.path}\n    {again.format(number=self.number)}"
        )


@dataclass
class Result:
    """What came of the cases of a target."""

    cases: int = 0
    outcomes: Counter = field(default_factory=Counter)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    skipped: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    seconds: float = 0.0


def make_case(target: Target, seed: int, number: int) -> Mutant:
    """The case of this number."""
    return target.mutate(random.Random(f"{seed} {target.name} {number}"), target.seeds())


class Campaign:
    """The cases of `target`, in `sandbox`."""

    def __init__(self, target: Target, sandbox: Sandbox, saved: Path):
        self.target, self.sandbox, self.saved = target, sandbox, saved
        self.folder = sandbox.prepare(target.files())
        self.result = Result()
        self._costly: Counter = Counter()

    def sound(self) -> dict[str, Outcome]:
        """What comes of each of the valid files."""
        return {f"{i} {part.name}": self._read(part) for i, part in enumerate(self.target.seeds())}

    def run(self, seed: int, numbers: range, deadline: float) -> Result:
        """The cases of `numbers`, until `time.monotonic()` is `deadline`."""
        start = time.monotonic()
        for number in numbers:
            if time.monotonic() > deadline:
                break
            mutant = make_case(self.target, seed, number)
            if number % 4 ** max(self._costly[mutant.kind] - ENOUGH + 1, 0):
                self.result.skipped[mutant.kind] += 1
                continue
            self._run_case(number, mutant)
        for finding in self.result.findings.values():
            self._make_small(finding)
            self._save(finding, seed)
        self.result.seconds = time.monotonic() - start
        return self.result

    def _run_case(self, number: int, mutant: Mutant) -> None:
        before = time.monotonic()
        outcome = self._read(mutant.part)
        self.result.slowest = max(self.result.slowest, time.monotonic() - before)
        self.result.cases += 1
        self.result.outcomes[outcome.kind] += 1
        if not outcome.is_finding:
            return
        self._costly[mutant.kind] += outcome.kills
        known = self.result.findings.get((outcome.kind, outcome.place))
        if known is None:
            self.result.findings[outcome.kind, outcome.place] = Finding(number, mutant, outcome)
            return
        known.count += 1
        if len(mutant.part.content) < len(known.mutant.part.content):
            known.number, known.mutant, known.outcome = number, mutant, outcome

    def _read(self, part: Part) -> Outcome:
        valid = self.target.files().get(part.name)
        path = write(self.folder, part)
        try:
            return self.sandbox.run(self.target.reader, self.folder)
        finally:
            if valid is None:
                path.unlink()
            else:
                path.write_bytes(valid)

    def _make_small(self, finding: Finding) -> None:
        """Leave out what the outcome does not need: halves, then ever smaller pieces."""
        name, signature = finding.mutant.part.name, (finding.outcome.kind, finding.outcome.place)

        def shows(content: bytes) -> bool:
            outcome = self._read(Part(name, content))
            return (outcome.kind, outcome.place) == signature

        if finding.outcome.kind != "time":
            tries = SMALLER // 10 if finding.outcome.kills else SMALLER
            content = smaller(finding.mutant.part.content, shows, tries)
            finding.mutant = Mutant(finding.mutant.kind, Part(name, content))

    def _save(self, finding: Finding, seed: int) -> None:
        part = finding.mutant.part
        said = re.sub(r"[^\w]+", "-", f"{finding.outcome.kind} {finding.outcome.place}").strip("-")
        label = f"{said:.80}-{hashlib.sha256(part.content).hexdigest()[:8]}"
        finding.path = write(self.saved / self.target.name / label, part)


def smaller(content: bytes, shows: Callable[[bytes], bool], tries: int) -> bytes:
    """A shorter content that still `shows` the same, if `tries` attempts find one."""
    piece = len(content) // 2
    while piece and tries > 0:
        at = 0
        while at < len(content) and tries > 0:
            shorter = content[:at] + content[at + piece :]
            tries -= 1
            if shows(shorter):
                content = shorter
            else:
                at += piece
        piece //= 2
    return content
