"""The data set `features:PATH`: one record, whatever its files are, which are read when it is made."""

import os
from collections.abc import Mapping
from functools import partial

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets.examples import Examples
from jaxalign.eval.datasets.feature_reading import FEATURES, FeatureReading
from jaxalign.eval.datasets.folder_splits import ALL, canonical
from jaxalign.eval.datasets.records import DatasetRecord, Folder

from .layouts import find_splits, split_paths
from .splits import Classes, Split, read_classes, read_split

LABEL = "label"


def features_record(name: str, reading: FeatureReading | None = None) -> DatasetRecord:
    """The record of `features:PATH`, or `features:train=PATH,test=PATH`.

    Raises:
      JaxalignError: files that are not there, damaged, ambiguous, or that do not belong together.
    """
    reading, text = reading or FeatureReading(), name.removeprefix(FEATURES)
    places = find_splits(text)
    splits = {split: read_split(split, parts, reading, len(places)) for split, parts in places.items()}
    widths = {split: of.features.shape[1] for split, of in splits.items()}
    if len(set(widths.values())) > 1:
        said = ", ".join(f"{split} {width}" for split, width in widths.items())
        raise JaxalignError(f"{name}: features of different widths ({said}); expected those of one model")
    classes, own = read_classes(splits, reading.label_names), _real_name(text)
    examples = {split: _examples(own, split, of, classes) for split, of in splits.items()}
    pick = lambda *names: next(split for split in (*names, *splits) if split in splits)
    query = pick("query", "test", ALL, "val")
    gallery, train, test = pick("gallery", "train", query), pick("train", "gallery"), pick("test", query)
    return DatasetRecord(
        name=own,
        builder="",
        version=splits[query].content,
        splits={split: len(of) for split, of in examples.items()},
        tasks=(LABEL,) if classes else (),
        licence="one's own",
        source=text,
        description="Features that were computed elsewhere",
        protocol=(
            f"Queries are `{query}`, the gallery is `{gallery}`; a query that is in the gallery is left out"
            " of its own."
        ),
        query=query,
        gallery=gallery,
        train=train,
        test=test,
        images=False,
        reading=f"{text} is read as {_describe(splits, classes)}",
        open_split=partial(_open, examples),
    )


def _describe(splits: Mapping[str, Split], classes: Classes | None) -> str:
    counts = ", ".join(f"{split} {len(of.features):,}" for split, of in splits.items())
    first = next(iter(splits.values())).features
    labels = "no labels" if classes is None else f"labels of {len(classes.names):,} classes"
    ids = "ids" if all(of.has_own_ids for of in splits.values()) else "no ids"
    return f"{first.dtype} features {first.shape[1]} wide ({counts}) with {labels} and {ids}"


def _real_name(text: str) -> str:
    """The same with absolute paths, by which its runs are found wherever they are asked for."""
    real = {split: os.path.realpath(path) for split, path in split_paths(text).items()}
    if list(real) == [ALL]:
        return f"{FEATURES}{real[ALL]}"
    return FEATURES + ",".join(f"{split}={path}" for split, path in real.items())


def _open(
    examples: Mapping[str, Examples], split: str, data_dir: Folder = None, source_dir: Folder = None
) -> Examples:
    if canonical(split) not in examples:
        raise unknown_name("split of these features", split, examples)
    return examples[canonical(split)]


def _examples(dataset: str, split: str, of: Split, classes: Classes | None) -> Examples:
    labels, names = {}, {}
    if classes is not None and of.labels is not None:
        labels, names = {LABEL: classes.number(of.labels)}, {LABEL: classes.names}
    return Examples(
        dataset=dataset,
        split=split,
        version=of.content,
        images=None,
        features=of.features,
        labels=labels,
        label_names=names,
        captions=(),
        file_names=of.ids,
        same=tuple((dataset, name) for name in of.ids) if of.has_own_ids else (),
    )
