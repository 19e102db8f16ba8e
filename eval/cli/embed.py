"""`jaxalign embed`: features of a split or of a folder of pictures into the feature store."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from .arguments import (
    ALONE,
    ComputeDtype,
    DataDir,
    Distributed,
    JsonFile,
    OwnName,
    SettingsOf,
    UnreadablePictures,
)
from .measuring import NAMED, ModelName, StoreFolder

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.datasets import Examples
    from jaxalign.eval.features import Features

_EITHER = tyro.conf.create_mutex_group(required=False)
DatasetName = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="NAME", help="Of `jaxalign datasets`.", help_behavior_hint="(default: emoji-scenes)"
    ),
    _EITHER,
]
PictureFolder = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help="Pictures of one's own, subfolders included, in place of a data set.",
        help_behavior_hint="(default: none)",
    ),
    _EITHER,
]
SplitName = Annotated[
    str,
    tyro.conf.arg(
        metavar="NAME",
        help="Of the data set; A+B is both, one after the other.",
        help_behavior_hint="(default: the one it is tested on)",
    ),
]
BatchSize = Annotated[
    int,
    tyro.conf.arg(help="Pictures that pass through the tower together on each device; 256 suits a GPU."),
]
Threads = Annotated[int, tyro.conf.arg(help="That read, decode and resize pictures ahead of the tower.")]


@dataclass(frozen=True)
class Embed:
    """Compute the pre-projection features of a split, or of a folder of pictures, into the feature store.

    Whatever is killed goes on where it stopped: run the same command again, and finished chunks of 256
    pictures are neither computed again nor changed. Every other command finds the features there. All devices
    of the machine take part; with --distributed also those of other machines.

    An image that is missing, damaged, cut off, empty, no regular file, larger than 179 megapixels (100 to 130
    in WebP, JPEG 2000, AVIF and HEIF), longer than 1,048,576 pixels or grey with more than 8 bits counts as
    unreadable. CMYK and palettes are converted, of an animation the first frame is taken, and the EXIF
    orientation is not applied, as in the models' original code. Of a folder, linked folders are followed; raw
    photos and other formats that are not read are counted by their endings.

    Examples:
      jaxalign embed
      jaxalign embed --model openai/clip-vit-base-patch32 --dataset dtd --split train --data-dir /data/tfds
      jaxalign embed --folder ~/photos --unreadable leave-out --json photos.json
      jaxalign embed --model clip-vit-large-patch14 --dataset caltech101 --dtype bfloat16 --batch-size 256
    """

    model: ModelName = "emoji-clip"
    spec: SettingsOf = None
    name: OwnName = None
    dataset: DatasetName = None
    folder: PictureFolder = None
    split: SplitName = ""
    store: StoreFolder = None
    dtype: ComputeDtype = "float32"
    batch_size: BatchSize = 32
    threads: Threads = 8
    unreadable: UnreadablePictures = "fail"
    data_dir: DataDir = None
    json: JsonFile = None
    distributed: Distributed = ALONE

    def run(self) -> None:
        from .output import check_file, write_json

        check_file(self.json)
        import jaxalign as ja
        from jaxalign.eval.datasets import find_dataset, load_split
        from jaxalign.eval.features import image_features
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.progress import Stages, Watch

        name = self.dataset or "emoji-scenes"
        record = find_dataset(name if self.folder is None else f"folder:{self.folder}")
        if record.reading and is_first():
            Stages().note(record.reading)
        model = ja.load(self.model, dtype=self.dtype, spec=self.spec, name=self.name)
        examples = load_split(record, self.split or record.test or record.gallery, self.data_dir)
        watch = Watch()
        with watch.shown(f"{model.name}: {examples.dataset}/{examples.split}", len(examples)):
            features = image_features(
                model,
                examples,
                store=self.store,
                unreadable=library_name(self.unreadable),
                batch_size=self.batch_size,
                threads=self.threads,
                progress=watch.advance,
            )
        if not is_first():
            return
        facts = describe(model, examples, features, self.store) | watch.facts()
        write_json(self.json, facts)
        print_summary(facts)


def library_name(unreadable: str) -> Literal["fail", "leave out"]:
    """What the library calls an option."""
    return "leave out" if unreadable == "leave-out" else "fail"


def describe(
    model: "DualEncoder", examples: "Examples", features: "Features", store: str | None
) -> dict[str, Any]:
    """What was embedded, and where it is."""
    import numpy as np

    from jaxalign.eval.features import default_store, make_key
    from jaxalign.eval.features.store import store_url

    key = make_key(model, examples.dataset, examples.state, examples.split, "image")
    return {
        "model": model.name,
        "source": model.spec.source,
        "dataset": examples.dataset,
        "version": examples.state,
        "split": examples.split,
        "dtype": np.dtype(model.dtype).name,
        "store": store_url(default_store() if store is None else store, key),
        "pictures": len(examples),
        "width": features.values.shape[1],
        "left_out": list(features.left_out),
        "not_read": dict(examples.not_read),
    }


def print_summary(facts: dict[str, Any]) -> None:
    """Two lines, and one more for what was left out."""
    from jaxalign.eval.terminal import say

    rate = f" at {facts['images_per_second']:,.0f} images/s" if facts["computed"] else ""
    say(
        f"{facts['model']}, {facts['dataset']}/{facts['split']}: {facts['pictures']:,} pictures,"
        f" {facts['earlier']:,} done earlier, {facts['computed']:,} now{rate}"
    )
    if lost := facts["left_out"]:
        more = f" and {len(lost) - NAMED:,} more" if len(lost) > NAMED else ""
        say(f"{len(lost):,} left out, unreadable: {', '.join(lost[:NAMED])}{more}")
    say(f"features {facts['width']} wide, in {facts['store']}")
