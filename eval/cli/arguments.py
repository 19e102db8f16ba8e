"""The options of the commands: types with their help."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

OutFolder = Annotated[Path, tyro.conf.arg(metavar="DIR", help="Folder for metrics.json and report.html.")]
ModelNames = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="NAME [NAME ...]", help="Models to compare: of `jaxalign models`, or folders."),
]
Seed = Annotated[int, tyro.conf.arg(help="Seed of everything that is drawn at random.")]
DataDir = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help="Folder of prepared data sets.",
        help_behavior_hint="(default: $TFDS_DATA_DIR or ~/tensorflow_datasets)",
    ),
]
JsonFile = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help="File for the results as JSON.", help_behavior_hint="(default: none)"),
]
ComputeDtype = Annotated[
    Literal["float32", "bfloat16", "float16"],
    tyro.conf.arg(help="What the towers compute in; features are stored as float32."),
]
UnreadablePictures = Annotated[
    Literal["fail", "leave-out"],
    tyro.conf.arg(help="What a picture that cannot be read does: end the command, or be left out and named."),
]
