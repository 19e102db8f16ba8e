"""Hostile files for every reader: `pytest -m fuzz`.

A `Target` (targets.py) is a valid folder, the files in it that are mutated, and how. A case is what a seed
and a number make of one of them. A worker process (worker.py) reads it (readers.py) under limits of memory
and time; it may die without taking the run along (sandbox.py). A case ends well if the file is read, or
refused by a JaxalignError of one printable line. Everything else is a finding: made small, saved, and listed
with what repeats it (campaign.py). Files that were findings once are in `tests/fuzz_findings`, which every
`pytest` reads.
"""
