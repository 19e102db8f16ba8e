"""Captions that find the other captions of their image (IsoCLIP, tables 2 and S5)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.eval.datasets.examples import Captions
from jaxalign.ranking.retrieval import other_captions

from .image_retrieval import COLUMNS, DEPTHS, DETAILS, Retrieving, retrieval, with_curve
from .inverting import invert_queries
from .methods import Method, find_methods
from .pairs import CaptionPair
from .projecting import Fitting
from .runs import Result, Run
from .task import Task
from .workspace import model_settings

TASK = Task(
    name="text-retrieval",
    title="Text retrieval",
    about="The first caption of each image, which finds the image's other captions.",
    headline="mAP",
    columns=COLUMNS,
    compared="mAP",
    details=(DETAILS,),
)


def measure_text_retrieval(pair: CaptionPair, retrieving: Retrieving) -> list[Run]:
    """Runs of protocol `text-retrieval`, one for each method; as `measure_image_retrieval`."""
    workspace, model = pair.workspace, pair.model
    methods = find_methods(retrieving.methods, model, "text", retrieving.options)
    facts = model_settings(model) | pair.settings | retrieving.settings
    fitting = Fitting(workspace, model, lambda: pair.pre)
    compute = lambda method: lambda: _measure(fitting, pair, method, retrieving)
    return [workspace.measure(TASK.name, facts | method.to_json(), compute(method)) for method in methods]


def _measure(fitting: Fitting, pair: CaptionPair, method: Method, retrieving: Retrieving) -> Result:
    captions = pair.captions
    gallery = np.asarray(fitting.embed(method)(pair.pre))
    query, inverted = gallery[captions.queries], None
    if method.inverts:
        ids = [captions.ids[i] for i in captions.queries]
        inverted = invert_queries(fitting.workspace, pair.model, method, query, ids, pair.examples)
        query = inverted.embeddings
    how = {"variant": retrieving.variant, "recall_at": retrieving.recall_at, "mesh": pair.workspace.mesh}
    measure = partial(text_retrieval, gallery=gallery, captions=captions, **how)
    return with_curve(measure(query), measure, inverted)


def text_retrieval(
    query: ArrayLike,
    gallery: ArrayLike,
    captions: Captions,
    *,
    variant: str = "paper",
    recall_at: Sequence[int] = DEPTHS,
    mesh: Mesh | None = None,
) -> Result:
    """The first caption of each image against all captions, itself left out; in the published code, against
    all but the first ones.

    Args:
      query: embeddings `[q, d]` of the captions at `captions.queries`: rows of `gallery`, or their
        inversions.
      gallery: embeddings `[n, d]` of all captions.
      variant: "paper" or "reference", as in `ja.text_retrieval_metrics`.
      recall_at, mesh: as in `retrieval`.

    Returns:
      As `retrieval`. An image with one caption is a query without positives.
    """
    labels, first = captions.images, captions.queries
    exclude: Any = first
    if variant == "reference":
        others, exclude = other_captions(len(labels), first), False
        gallery, labels = np.asarray(gallery)[others], labels[others]
    own = captions.images[first]
    how: dict[str, Any] = {"variant": variant, "recall_at": recall_at, "mesh": mesh}
    return retrieval(query, gallery, own, labels, exclude_self=exclude, **how)
