"""`jaxalign caption`: what is left in images' embeddings, in words."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxalign.errors import JaxalignError
from jaxalign.eval.terminal import say

from .groups import Embedding, Projection, ProjectionOptions, about
from .options import MaxQueries, MethodNames, UsageError, YesOrNo, option
from .printing import describe_method, print_table, write_json

if TYPE_CHECKING:
    import numpy as np

    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.tasks.workspace import Workspace

_DATASET = "emoji-scenes"  # where no image is given


@dataclass(frozen=True)
class CaptionerOptions:
    """What puts embeddings into words."""

    captioner: Annotated[
        str | None,
        option(
            "Caption decoder: a model that comes with one, a folder, or a ClipCap checkpoint (.pt).",
            "CAPTIONER",
            "the model's own",
        ),
    ] = None
    tokenizer: Annotated[
        Path | None,
        option("GPT-2's tokenizer.json, or its folder.", "FILE", "beside the checkpoint, or the hub's cache"),
    ] = None
    normalize: Annotated[
        YesOrNo,
        option(
            "State whether a ClipCap checkpoint was trained on embeddings of length one.",
            default="asked for where it matters",
        ),
    ] = None
    beams: Annotated[
        int, option("Beams of the search for a caption; 1 takes the likeliest word each time.", "N")
    ] = 1


Words = Annotated[CaptionerOptions, about(CaptionerOptions, "captioner")]


@dataclass(frozen=True)
class Caption(Embedding):
    """Say what an image's embedding holds, before and after each method.

    A caption decoder describes the embedding of an image, then what each method leaves of it: what is missing
    afterwards is what the method removed. As in figures 9 and 10 of the second paper, the embedding after
    PCA<- or IsoCLIP takes the place of the image's own. emoji-clip comes with a decoder; for others give a
    checkpoint of ClipCap of their embeddings (ViT-B/32 for the published MLP).

    Examples:
      jaxalign caption
      jaxalign caption goose.png --methods image-image pca --rank 16
      jaxalign caption --dataset emoji-scenes --max-queries 20 --beams 5 --json -
      jaxalign caption dog.jpg --model ViT-B/32 --captioner coco_weights.pt --normalize no
    """

    images: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        option("Images to describe.", "[IMAGE ...]", f"some of {_DATASET}"),
    ] = ()
    dataset: Annotated[
        str, option("Data set whose images are described, as in `jaxalign retrieve`.", "NAME", "none")
    ] = ""
    split: Annotated[str, option("Split to take.", "SPLIT", "the queries of its protocol")] = ""
    max_queries: MaxQueries = 8
    methods: MethodNames = ()
    words: Words = CaptionerOptions()
    projection: Projection = field(default_factory=ProjectionOptions)

    def run(self) -> None:
        from jaxalign.eval.captioning import caption_methods, captions_of, find_captioner
        from jaxalign.eval.tasks.projecting import Fitting

        self._check()
        workspace, model = self.open()
        words = self.words
        captioner = find_captioner(model, words.captioner, words.tokenizer, words.normalize)
        methods = caption_methods(self.methods, model, self.projection.method_options())
        names, pre, gallery = self._read(workspace, model)
        fitting = Fitting(workspace, model, lambda: _require_gallery(gallery))
        with workspace.stages.stage("caption", f"{model.name}: {len(names)} images in words"):
            said = captions_of(fitting, captioner, methods, pre, beams=words.beams)
        used = [method.to_json() for method in methods]
        titles = list(map(describe_method, used))
        print_captions(f"{model.title} in the words of {captioner.name}", names, titles, said)
        captions = [dict(zip(titles, of, strict=True)) for of in zip(*said, strict=True)]
        shown = [{"image": name, "captions": of} for name, of in zip(names, captions, strict=True)]
        facts = {"model": model.name, "captioner": captioner.name, "beams": words.beams}
        write_json(self.results.json, facts | {"methods": used, "images": shown})

    def _check(self) -> None:
        from jaxalign.local_files import is_there

        if self.images and self.dataset:
            raise UsageError(f"got images and --dataset {self.dataset}; give one of both")
        if self.images and self.split:
            raise UsageError("--split is about a data set; give --dataset, or leave it out")
        for path in self.images:
            if not is_there(Path(os.path.expanduser(path))):
                raise JaxalignError(f"the image {path} is not there; expected an image file")
        for name, value in {"beams": self.words.beams, "max-queries": self.max_queries}.items():
            if value is not None and value < 1:
                raise UsageError(f"--{name} is {value}; expected 1 or more")

    def _read(
        self, workspace: "Workspace", model: "DualEncoder"
    ) -> "tuple[list[str], np.ndarray, np.ndarray | None]":
        """Names and pre-projection features of what is described, and those of the whole split."""
        import numpy as np

        from jaxalign.eval.tasks.pairs import some

        if self.images:
            return *self._read_files(model), None
        record = workspace.find_dataset(self.dataset or _DATASET)
        split = self.split or record.query or record.test
        if not split:
            raise JaxalignError(f"{record.name} has no protocol; say which split to take (--split)")
        found = workspace.images(model, workspace.load_split(record, split))
        rows = some(np.arange(len(found.pre)), self.max_queries)
        return [found.examples.ids[row] for row in rows], found.pre[rows], found.pre

    def _read_files(self, model: "DualEncoder") -> "tuple[list[str], np.ndarray]":
        """Images upright, as `search` takes them; with --unreadable leave-out those that can be read."""
        import numpy as np

        from jaxalign.inputs.image_files import opened_image, upright

        names, features = [], []
        for path in self.images:
            try:
                with opened_image(os.path.expanduser(path), str(path)) as image:
                    features.append(np.asarray(model.encode_image([upright(image)], projected=False)))
                    names.append(str(path))
            except JaxalignError as error:
                if self.data.unreadable == "fail":
                    raise
                say(f"left out: {error}", sys.stderr)
        if not names:
            raise JaxalignError("none of the images can be read; expected one or more")
        return names, np.concatenate(features)


def _require_gallery(gallery: "np.ndarray | None") -> "np.ndarray":
    if gallery is None:
        raise JaxalignError("pca-mean adds back the mean of a data set; give one (--dataset), or take pca")
    return gallery


def print_captions(
    title: str, names: Sequence[str], methods: Sequence[str], said: Sequence[Sequence[str]]
) -> None:
    """A line for each image and method."""
    lines = [(i, at) for i in range(len(names)) for at in range(len(methods))]
    rows = [("" if at else names[i], methods[at], said[at][i]) for i, at in lines]
    print_table(title, ["image", "method", "caption"], rows, left=3)
