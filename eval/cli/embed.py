"""`jaxalign embed`: features of a split or of a folder of pictures into the feature store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from .groups import Distributed, Embedding, Processes
from .options import DatasetName, SplitName, option

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.datasets import Examples
    from jaxalign.eval.features import Features

_EITHER = tyro.conf.create_mutex_group(required=False)


@dataclass(frozen=True)
class Embed(Embedding):
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

    dataset: Annotated[DatasetName, _EITHER] = "emoji-scenes"
    folder: Annotated[
        Path | None, option("Images of one's own: short for --dataset folder:DIR.", "DIR", "none"), _EITHER
    ] = None
    split: Annotated[SplitName, tyro.conf.arg(help_behavior_hint="(default: the one it is tested on)")] = ""
    distributed: Distributed = field(default_factory=Processes)

    def run(self) -> None:
        from jaxalign.eval.datasets import load_split
        from jaxalign.eval.distributed import is_first
        from jaxalign.eval.features import image_features

        from .printing import write_json

        workspace, model = self.open()
        record = workspace.find_dataset(self.dataset if self.folder is None else f"folder:{self.folder}")
        split = self.split or record.test or record.gallery
        examples = load_split(record, split, self.data.data_dir)
        watch = Watch()
        with watch.shown(f"{model.name}: {examples.dataset}/{examples.split}", len(examples)):
            features = image_features(
                model, examples, store=self.results.store, progress=watch.advance, **self.data.reading()
            )
        if not is_first():
            return
        facts = describe(model, examples, features, self.results.store) | watch.facts()
        write_json(self.results.json, facts)
        print_summary(facts)


class Watch:
    """How many pictures are done, how fast, on a progress bar where standard error is a terminal."""

    def __init__(self):
        self.total, self.earlier, self.seconds = 0, 0, 0.0
        self._told, self._start = False, 0.0
        self._bar: Any = None
        self._task: Any = None

    @contextmanager
    def shown(self, title: str, total: int | None = None) -> Iterator[None]:
        """Show progress while features are computed; `start` tells the total where it is not known yet."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from jaxalign.eval.distributed import is_first
        from jaxalign.eval.terminal import open_console, shown

        console = open_console(stderr=True, quiet=not is_first())
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        if not console.is_terminal:
            count = "" if total is None else f", {total} pictures"
            console.print(title + count, soft_wrap=True)
        self.total, self._start = total or 0, time.perf_counter()
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        with self._bar:
            self._task = self._bar.add_task(shown(title), total=total, rate="")
            yield
        self.seconds = time.perf_counter() - self._start

    def start(self, total: int) -> None:
        """`total` pictures are to be done."""
        self.total = total
        self._bar.update(self._task, total=total)

    def advance(self, count: int) -> None:
        """`count` more are done; the first call tells how many earlier runs did."""
        if not self._told:
            self._told, self.earlier = True, count
            self._bar.update(self._task, completed=count)
            return
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, advance=count, rate=f"{speed:,.0f} images/s" if speed else "")

    def facts(self) -> dict[str, Any]:
        """Pictures of earlier runs and of this one, and the rate of this one with all that it waited for."""
        now = self.total - self.earlier
        rate = round(now / self.seconds, 2) if now else None
        return {
            "earlier": self.earlier,
            "computed": now,
            "seconds": round(self.seconds, 3),
            "images_per_second": rate,
        }


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

    from .printing import first_names

    rate = f" at {facts['images_per_second']:,.0f} images/s" if facts["computed"] else ""
    say(
        f"{facts['model']}, {facts['dataset']}/{facts['split']}: {facts['pictures']:,} pictures,"
        f" {facts['earlier']:,} done earlier, {facts['computed']:,} now{rate}"
    )
    if lost := facts["left_out"]:
        say(f"{len(lost):,} left out, unreadable: {first_names(lost)}")
    say(f"features {facts['width']} wide, in {facts['store']}")
