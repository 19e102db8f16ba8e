"""The data sets inside the package."""

from ..records import DatasetRecord

LABELS = ("emoji", "group", "subgroup", "style")
LICENCE = "Apache-2.0, MIT, CC-BY-4.0, CC-BY-SA-4.0 (by drawing style)"
SPLITS = {"train": 8088, "test": 2148}
PROTOCOL = (
    "Queries and gallery are `test`, the query itself left out; choices are made on `train`, other emoji."
)


def embedded(
    name: str, builder: str, tasks: tuple[str, ...], captions: str, description: str
) -> DatasetRecord:
    return DatasetRecord(
        name=name,
        builder=f"jaxalign.eval.datasets.emoji.builders:{builder}",
        splits=SPLITS,
        tasks=tasks,
        captions=captions,
        licence=LICENCE,
        source="inside the package",
        description=description,
        protocol=PROTOCOL,
        query="test",
        gallery="test",
        train="train",
        test="test",
        classified="group",  # no emoji is in both splits
        template="a photo of {}",
        in_memory=True,
    )


RECORDS = (
    embedded(
        "emoji",
        "Emoji",
        LABELS,
        "the Unicode name, then pairs of CLDR keywords",
        "Emoji in seven drawing styles on white, split by emoji",
    ),
    embedded(
        "emoji-scenes",
        "EmojiScenes",
        (*LABELS, "background", "texture", "size", "place"),
        "one, of the name and some of the context",
        "The same emoji on coloured, textured backgrounds at several sizes and places",
    ),
)
