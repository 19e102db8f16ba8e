"""What the protocol "reference" feeds: the splits and distractors that the papers' published code takes."""

import os

from jaxalign.eval.availability import find_dataset_copy
from jaxalign.eval.datasets import DatasetRecord, find_dataset

PAPER, REFERENCE = PROTOCOLS = ("paper", "reference")


def query_split(dataset: str | DatasetRecord, query: str, protocol: str) -> str:
    """`query`, or where it is empty that of the protocol; empty where that is the data set's own.

    The published code reads the queries of ROxford and RParis whole, and does not crop them to their boxes.
    """
    return query or _reference_split(dataset, "query", protocol)


def caption_split(dataset: str | DatasetRecord, split: str, protocol: str) -> str:
    """The same for the captions of text retrieval: of Flickr30k the published code takes `val`."""
    return split or _reference_split(dataset, "captions", protocol)


def takes_distractors(
    dataset: str | DatasetRecord,
    wanted: bool | None,
    protocol: str,
    data_dir: str | os.PathLike | None = None,
) -> bool:
    """Whether a gallery gets the data set's distractors: `wanted`, or what the protocol does.

    By the paper's none; the published code appends R1M to ROxford and RParis where it finds it, which here
    is where it is prepared or can be.
    """
    if wanted is not None:
        return wanted
    distractors = find_dataset(dataset).distractors
    if protocol != REFERENCE or not distractors:
        return False
    return find_dataset_copy(find_dataset(distractors), data_dir).state != "missing"


def _reference_split(dataset: str | DatasetRecord, which: str, protocol: str) -> str:
    return find_dataset(dataset).reference_splits.get(which, "") if protocol == REFERENCE else ""
