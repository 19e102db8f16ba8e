"""Files that once crashed, hung or ran away with a reader: each is read now, or refused in one line."""

import re
from pathlib import Path

import pytest

from .mutant import Part
from .sandbox import Sandbox, write
from .targets import BY_NAME

# The file name of a run, and of no finding, ends with a digest, which changes with the program.
_DIGEST = re.compile("-[0-9a-f]{16}(?=[.])")
FOLDER = Path(__file__).parents[1] / "fuzz_findings"  # TARGET/WHAT IT SHOWS/the file, where the target has it
LIMIT = 16 << 10  # bytes: what a file shows can be shown by a small one
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("file", FILES, ids=lambda file: "-".join(file.relative_to(FOLDER).parts[:2]))
@pytest.mark.long
def test_a_file_that_was_a_finding_no_longer_is(file: Path, sandbox):
    name, _, *inside = file.relative_to(FOLDER).parts
    target = BY_NAME[name]
    files, place = target.files(), "/".join(inside)
    folder = sandbox.prepare(files)
    assert file.stat().st_size <= LIMIT
    assert not _DIGEST.search(place)
    place = {_DIGEST.sub("", name): name for name in files}.get(place, place)
    write(folder, Part(place, file.read_bytes()))
    outcome = sandbox.run(target.reader, folder)
    assert not outcome.is_finding, outcome
