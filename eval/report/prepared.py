"""Pictures for a report, from prepared data sets only: making a report prepares and downloads nothing."""

import os
from functools import cache

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import Examples, find_dataset, load_split
from jaxalign.eval.report.run_examples import FindSplit


def prepared_splits(data_dir: str | os.PathLike | None = None) -> FindSplit:
    """Finds a split of a data set and version; None for what is not prepared in `data_dir`."""

    @cache
    def find(dataset: str, version: str, split: str) -> Examples | None:
        try:
            record = find_dataset(dataset)
            if not record.is_prepared(data_dir):
                return None
            examples = load_split(record, split, data_dir)
        except JaxalignError:  # a data set of another release, a folder that has moved: said in the report
            return None
        return examples if examples.state == version and examples.images is not None else None

    return find
