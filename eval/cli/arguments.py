"""The options of the commands: types with their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

OutFolder = Annotated[Path, tyro.conf.arg(metavar="DIR", help="Folder for metrics.json and report.html.")]
ModelNames = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="NAME [NAME ...]", help="Models to compare: of `jaxalign models`, or folders."),
]


def parse_seed(text: str) -> int:
    """What all generators of random numbers take: 32 bits."""
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise ValueError(f"seed is {text!r}; expected an integer from 0 to {(1 << 32) - 1}")
    return int(text)


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
Seed = Annotated[SeedNumber, tyro.conf.arg(help="Seed of everything that is drawn at random.")]
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
SettingsOf = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="NAME",
        help="The known model, of `jaxalign models`, whose settings the model's files have where they do not"
        " say: activation, preprocessing, tokens.",
        help_behavior_hint="(default: asked for where it matters)",
    ),
]
OwnName = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="TEXT",
        help="What to call a model that is no known one.",
        help_behavior_hint="(default: its file or folder)",
    ),
]
UnreadablePictures = Annotated[
    Literal["fail", "leave-out"],
    tyro.conf.arg(help="What a picture that cannot be read does: end the command, or be left out and named."),
]


@dataclass(frozen=True)
class Processes:
    """How this process takes part in a run of several, each on its own devices."""

    distributed: Annotated[
        bool,
        tyro.conf.arg(
            help="Share the work with the other processes of a TPU pod, SLURM step or Open MPI job, or with"
            " those that the next three options name; --store and --out are folders that all of them see."
        ),
    ] = False
    coordinator: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="HOST:PORT",
            help="Where process 0 is, with a free port.",
            help_behavior_hint="(default: found out)",
        ),
    ] = None
    num_processes: Annotated[
        int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: found out)")
    ] = None
    process_id: Annotated[
        int | None,
        tyro.conf.arg(metavar="I", help="From 0 to N - 1.", help_behavior_hint="(default: found out)"),
    ] = None
    lost_after: Annotated[
        int,
        tyro.conf.arg(
            metavar="SECONDS",
            help="To wait for the others to begin, and without a sign of life after which a process is lost,"
            " and all end.",
        ),
    ] = 100

    def check(self) -> None:
        """Raise UsageError for numbers and addresses that no network could make right."""
        from jaxalign.errors import JaxalignError
        from jaxalign.eval.rendezvous import parse_address

        from .usage import UsageError

        if self.lost_after < 1:
            raise UsageError(f"--lost-after is {self.lost_after}; expected 1 or more seconds")
        if self.num_processes is not None and self.num_processes < 1:
            raise UsageError(f"--num-processes is {self.num_processes}; expected 1 or more")
        if self.process_id is not None and not 0 <= self.process_id < (self.num_processes or 1 << 31):
            most = (
                "" if self.num_processes is None else f" to {self.num_processes - 1}, one less than there are"
            )
            raise UsageError(f"--process-id is {self.process_id}; expected 0{most or ' or more'}")
        if self.coordinator is not None:
            try:
                parse_address(self.coordinator)
            except JaxalignError as error:
                raise UsageError(str(error)) from error


Distributed = Annotated[Processes, tyro.conf.OmitArgPrefixes]
ALONE = Processes()
