"""The table of data sets: each is a record, and nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ..records import DatasetRecord
from . import few_shot, retrieval

_EMOJI = DatasetRecord(
    name="emoji",
    builder="jaxalign.eval.datasets.emoji.builders:Emoji",
    splits={"train": 8088, "test": 2148},
    tasks=("emoji", "group", "subgroup", "style"),
    captions="the Unicode name, then pairs of CLDR keywords",
    licence="Apache-2.0, MIT, CC-BY-4.0, CC-BY-SA-4.0 (by drawing style)",
    source="inside the package",
    description="Emoji in seven drawing styles on white, split by emoji",
    protocol=(
        "Queries and gallery are `test`, the query itself left out; choices are made on `train`, other emoji."
    ),
    query="test",
    gallery="test",
    train="train",
    test="test",
    classified="group",  # no emoji is in both splits
    template="a photo of {}",
    in_memory=True,
)
_SCENES = replace(
    _EMOJI,
    name="emoji-scenes",
    builder="jaxalign.eval.datasets.emoji.builders:EmojiScenes",
    tasks=(*_EMOJI.tasks, "background", "texture", "size", "place"),
    captions="one, of the name and some of the context",
    description="The same emoji on coloured, textured backgrounds at several sizes and places",
)
_FAMILIES = ((_EMOJI, _SCENES), few_shot.RECORDS, retrieval.RECORDS)
DATASETS: Mapping[str, DatasetRecord] = MappingProxyType(
    {record.name: record for family in _FAMILIES for record in family}
)
