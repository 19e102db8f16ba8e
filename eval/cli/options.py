"""The options of the commands, each defined once if several commands have it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxalign.errors import JaxalignError


def option(about: str, metavar: str | None = None, default: str | None = None) -> Any:
    """What `--help` says of an option; `default` says in words what one stands for that is not given."""
    hint = None if default is None else f"(default: {default})"
    return tyro.conf.arg(metavar=metavar, help=about, help_behavior_hint=hint)


class UsageError(JaxalignError):
    """An option, or several together, that no data could make right: exit status 2."""


def parse_seed(text: str) -> int:
    """What all generators of random numbers take: 32 bits."""
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise ValueError(f"seed is {text!r}; expected an integer from 0 to {(1 << 32) - 1}")
    return int(text)


def parse_yes_or_no(words: list[str]) -> bool:
    """No word is a yes."""
    if words not in ([], ["yes"], ["no"]):
        raise ValueError(f"got {words[0]!r}; expected yes or no")
    return words != ["no"]


SeedNumber = Annotated[
    int,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: parse_seed(words[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]
Seed = Annotated[SeedNumber, option("Seed of everything that is drawn at random.")]
Steps = Annotated[
    int | None, option("Steps of the inversion.", "N", "150 of OTI, 1000 of OVI, as in the papers")
]
SettingsOf = Annotated[
    str | None,
    option(
        "Known model, of `jaxalign models`, whose settings the model's files have where they do not say:"
        " activation, preprocessing, tokens.",
        "NAME",
        "asked for where it matters",
    ),
]
OwnName = Annotated[str | None, option("Name of a model that is no known one.", "TEXT", "its file or folder")]
DatasetName = Annotated[
    str,
    option(
        "Data set: a name of `jaxalign datasets`, NAME@tfds, or folder:PATH for images: its subfolders are"
        " the classes, or, where all have names of splits (train, val, test and the like, in any case),"
        " splits with the classes below them; classes:PATH and splits:PATH say which. tfds:NAME[:VERSION],"
        " webdataset:PATH and huggingface:PATH for data in these layouts. Or features:PATH for"
        " features that are there already: .npy, .npz, .safetensors, .parquet, .csv, .pt, or a folder of"
        " clip-retrieval or `jaxalign export`; of several splits features:train=PATH,test=PATH.",
        "NAME",
    ),
]
DataDir = Annotated[
    Path | None, option("Folder of prepared data sets.", "DIR", "$TFDS_DATA_DIR or ~/tensorflow_datasets")
]


def split_option(about: str) -> Any:
    """The option of a split that the protocol of the data set says where it is not given."""
    return option(f"{about}; A+B is both, one after the other.", "SPLIT", "of the protocol")


SplitName = Annotated[str, split_option("Split to take")]
QuerySplit = Annotated[str, split_option("Split of the queries")]
GallerySplit = Annotated[str, split_option("Split of the gallery")]
TrainSplit = Annotated[str, split_option("Split that classifiers learn from")]
TestSplit = Annotated[str, split_option("Split that is classified")]
TaskNames = Annotated[
    tuple[str, ...],
    option("Labellings of the images to measure, each a task.", "NAME [NAME ...]", "the first"),
]
ModalityOption = Annotated[
    Literal["image", "text"], option("Modality: images, or captions where the data set has them.")
]
MaxQueries = Annotated[int | None, option("Largest number of queries, evenly spaced; None for all.", "N")]
YesOrNo = Annotated[
    bool | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[yes|no]",
        instance_from_str=parse_yes_or_no,
        is_instance=lambda value: value is None or isinstance(value, bool),
        str_from_instance=lambda value: [] if value else ["no"],
    ),
]
RecallDepths = Annotated[
    tuple[int, ...], option("Depths K of recall@K, measured beside recall@1.", "K [K ...]", "1")
]
MethodNames = Annotated[
    tuple[str, ...],
    option(
        "Methods to compare; one's own is written module:name.",
        "METHOD [METHOD ...]",
        "all without optimisation; isoclip where it has a band",
    ),
]
BandOption = Annotated[
    tuple[int, int] | None,
    option(
        "IsoCLIP's band: numbers of directions that are left out at the top and at the bottom.",
        "K_TOP K_BOTTOM",
        "what the paper prints for the model",
    ),
]
VariantOption = Annotated[
    Literal["paper", "reference"],
    option(
        "Way of the paper, or of its published code (reference), where the two differ"
        " (docs/published_code.md)."
    ),
]
FormatOption = Annotated[
    Literal["jaxalign", "big_vision", "huggingface", "open_clip", "openai", "sentence-transformers"],
    option(
        "Program whose files DST gets: jaxalign, big_vision, transformers (huggingface), open_clip, OpenAI's"
        " clip, or sentence-transformers."
    ),
    tyro.conf.arg(aliases=["--to"]),  # as it was called when it had two values
]
TableFile = Annotated[
    Path | None,
    option("File for the results as a table, by how its name ends: .csv, .tex or .md.", "FILE", "none"),
]
JsonFile = Annotated[
    Path | None,
    option(
        "File for the results as JSON; - is standard output, and all else then goes to standard error.",
        "FILE",
        "none",
    ),
]
Excluded = Annotated[
    tuple[str, ...],
    option(
        "Further files and folders that are left out, by name (screenshots, '*.gif'), or by path below"
        " FOLDER where there is a slash in it.",
        "PATTERN [PATTERN ...]",
        "none",
    ),
]
PathsAlone = Annotated[
    bool,
    option(
        "Print the paths of the results and nothing else, for other programs; the rest goes to standard"
        " error."
    ),
]
NullPaths = Annotated[
    bool,
    option("The same, with a NUL after each path, for xargs -0: names may have line breaks."),
    tyro.conf.arg(aliases=["-0"]),
]
PageFile = Annotated[
    Path | None, option("A page to look at, for any browser, also a phone's.", "FILE.html", "none")
]
