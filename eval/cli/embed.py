"""`jaxalign embed`: features of a split or of a folder of images into the feature store."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from .groups import Distributed, Embedding, Processes
from .options import DatasetName, SplitName

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.datasets import Examples
    from jaxalign.eval.features import Features


@dataclass(frozen=True)
class Embed(Embedding):
    """Compute the pre-projection features of a split, or of a folder of images, into the feature store.

    Whatever is killed goes on where it stopped: run the same command again, and finished chunks of 256
    images are neither computed again nor changed. Every other command finds the features there. All devices
    of the machine take part; with --distributed also those of other machines.

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
        from jaxalign.eval.datasets import load_split
        from jaxalign.eval.features import image_features
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.progress import Watch

        from .printing import write_json

        workspace, model = self.open()
        record = workspace.find_dataset(self.dataset)
        split = self.split or record.test or record.gallery
        examples = load_split(record, split, self.data.data_dir)
        watch = Watch()
        with watch.shown(f"{model.name}: {examples.dataset}/{examples.split}", len(examples)):
            features = image_features(
                model, examples, store=self.results.store, progress=watch.advance, **self.data.reading()
            )
        if not is_first():
            return
        facts = embedding_facts(model, examples, features, self.results.store) | watch.facts()
        write_json(self.results.json, facts)
        print_summary(facts)


def embedding_facts(
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
        "images": len(examples),
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
        f"{facts['model']}, {facts['dataset']}/{facts['split']}: {facts['images']:,} images,"
        f" {facts['earlier']:,} done earlier, {facts['computed']:,} now{rate}"
    )
    if lost := facts["left_out"]:
        say(f"{len(lost):,} left out, unreadable: {first_names(lost)}")
    say(f"features {facts['width']} wide, in {facts['store']}")
