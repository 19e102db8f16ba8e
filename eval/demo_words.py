"""The demo's queries in words, before and after each method: what a method removes, no caption says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.eval.captioning import captions_of, share_hinted, share_named
from jaxalign.eval.datasets import Examples
from jaxalign.eval.report.examples import Shown
from jaxalign.eval.tasks.methods import MethodOptions, find_method
from jaxalign.eval.tasks.pairs import some
from jaxalign.eval.tasks.projecting import Fitting
from jaxalign.eval.tasks.runs import Run
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.eval.written_tables import WrittenTable

# What captions of all queries are searched for, by how the report calls it.
NAMED = {
    "the name": lambda said, queries: share_named(said, labels_of(queries, "emoji")),
    "a word of the name": lambda said, queries: share_hinted(said, labels_of(queries, "emoji")),
    "the background": lambda said, queries: share_named(
        said, [f"{colour} background" for colour in labels_of(queries, "background")]
    ),
}


@dataclass(frozen=True)
class Worded:
    """Images in words, as a report shows them.

    Attributes:
      queries: the images.
      captions: by method one for each of them.
      named: how often captions name what there is.
    """

    queries: Sequence[Shown]
    captions: Mapping[str, Sequence[str]]
    named: WrittenTable


@dataclass(frozen=True)
class Words:
    """Captions of all queries.

    Attributes:
      captions: by method, one for each query.
      named: by method, how many captions name what `NAMED` says, in percent.
    """

    queries: Examples
    captions: dict[str, list[str]]
    named: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """By method: the shares, and the caption of each query by its name."""
        return {
            method: {"named": self.named[method], "of": dict(zip(self.queries.ids, said, strict=True))}
            for method, said in self.captions.items()
        }

    def shown(self, count: int) -> Worded:
        """A part of the report with at most so many queries, evenly spaced."""
        rows = some(np.arange(len(self.queries)), count) if count else np.zeros(0, int)
        images, names = self.queries.images, labels_of(self.queries, "emoji")
        assert images is not None
        queries = [Shown(names[row], np.asarray(images[row])) for row in rows]
        captions = {method: [said[row] for row in rows] for method, said in self.captions.items()}
        numbers = [[method, *(f"{of[what]:.1f}" for what in NAMED)] for method, of in self.named.items()]
        title = f"Captions of all {len(self.queries)} queries that name, in percent"
        return Worded(queries, captions, WrittenTable(title, ["method", *NAMED], numbers))


def caption_queries(
    workspace: Workspace,
    model: ja.DualEncoder,
    captioner: ja.Captioner,
    queries: Examples,
    runs: Sequence[Run],
    class_names: tuple[str, ...],
) -> Words:
    """All queries under the methods of `runs` that change projectors or embeddings.

    Args:
      runs: of image retrieval, whose settings say band and rank.
      class_names: of PCA<-.
    """
    pre = workspace.images(model, queries).pre
    fitting, methods = Fitting(workspace, model, lambda: pre), {}
    for settings in (run.settings for run in runs):
        name = "pca" if settings["method"].startswith("pca") else settings["method"]
        if name in ("image-image", "isoclip", "pca"):
            options = MethodOptions(settings.get("band"), settings.get("rank"), class_names=class_names)
            methods[settings["method"]] = find_method(name, model, "image", options)
    said = captions_of(fitting, captioner, list(methods.values()), pre)
    captions = dict(zip(methods, said, strict=True))
    named = {
        method: {what: share(own, queries) for what, share in NAMED.items()}
        for method, own in captions.items()
    }
    return Words(queries, captions, named)


def labels_of(examples: Examples, task: str) -> list[str]:
    """The name of each example's label."""
    return [examples.label_names[task][label] for label in examples.labels[task]]
