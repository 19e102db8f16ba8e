"""`jaxalign embed`: features of a split or of a folder of images into the feature store."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxalign.eval.terminal import say

from .groups import Distributed, Embedding, Processes
from .options import DatasetName, SplitName
from .printing import told_left_out, write_json

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.datasets import Examples


@dataclass(frozen=True)
class Embed(Embedding):
    """Compute features of images once, for all other commands.

    The pre-projection features of a split, or of a folder of images, go into the feature store. Whatever is
    killed goes on where it stopped: run the same command again, and finished chunks of 256 images are neither
    computed again nor changed. Every other command finds the features there. All devices of the machine take
    part; with --distributed also those of other machines.

    An image that is missing, damaged, cut off, empty, no regular file, larger than 179 megapixels (100 to 130
    in WebP, JPEG 2000, AVIF and HEIF), longer than 1,048,576 pixels or grey with more than 8 bits counts as
    unreadable. CMYK and palettes are converted, of an animation the first frame is taken, and the EXIF
    orientation is not applied, as in the models' original code. Of a folder, linked folders are followed; raw
    photos and other formats that are not read are counted by their endings.

    Examples:
      jaxalign embed
      jaxalign embed --model openai/clip-vit-base-patch32 --dataset dtd --split train --data-dir /data/tfds
      jaxalign embed --dataset folder:photos --unreadable leave-out --json photos.json
      jaxalign embed --model clip-vit-large-patch14 --dataset caltech101 --dtype bfloat16 --batch-size 256
    """

    dataset: DatasetName = "emoji-scenes"
    split: Annotated[SplitName, tyro.conf.arg(help_behavior_hint="(default: the one it is tested on)")] = ""
    distributed: Distributed = field(default_factory=Processes)

    def run(self) -> None:
        from jaxalign.eval.features import image_store
        from jaxalign.eval.processes import is_first

        workspace, model = self.open()
        record = workspace.find_dataset(self.dataset)
        split = self.split or record.test or record.gallery
        examples, stages = workspace.load_split(record, split), workspace.stages
        title, counts = f"{model.name}: {examples.origin}", []
        stages.announce(f"{title}, {len(examples)} images")
        with stages.stage("embed", title, len(examples), announced=False) as advance:

            def progress(count: int) -> None:
                counts.append(count)
                advance(count)

            reading = self.data.reading()
            store = image_store(model, examples, store=self.results.store, progress=progress, **reading)
            features = store.read().require(examples.origin)
        if not is_first():
            return
        facts = embedding_facts(model, examples, features.left_out)
        facts |= computing_facts(len(examples), sum(counts[:1]), stages.seconds["embed"])
        facts |= {"width": store.width, "store": store.url}
        write_json(self.results.json, facts)
        print_summary(facts)


def embedding_facts(model: "DualEncoder", examples: "Examples", left_out: Sequence[str]) -> dict[str, Any]:
    """What was embedded."""
    import numpy as np

    return {
        "model": model.name,
        "source": model.spec.source,
        "dataset": examples.dataset,
        "version": examples.state,
        "split": examples.split,
        "dtype": np.dtype(model.dtype).name,
        "images": len(examples),
        "left_out": list(left_out),
        "not_read": dict(examples.not_read),
    }


def computing_facts(images: int, earlier: int, seconds: float) -> dict[str, Any]:
    """Images of earlier runs and of this one, and the rate of this one with all that it waited for."""
    now = images - earlier
    rate = round(now / seconds, 2) if now else None
    counts = {"earlier": earlier, "computed": now}
    return counts | {"seconds": round(seconds, 3), "images_per_second": rate}


def print_summary(facts: dict[str, Any]) -> None:
    """Two lines, and one more for what was left out."""
    rate = f" at {facts['images_per_second']:,.0f} images/s" if facts["computed"] else ""
    say(
        f"{facts['model']}, {facts['dataset']}/{facts['split']}: {facts['images']:,} images,"
        f" {facts['earlier']:,} done earlier, {facts['computed']:,} now{rate}"
    )
    if lost := facts["left_out"]:
        say(told_left_out(lost))
    say(f"features {facts['width']} wide, in {facts['store']}")
