"""`jaxalign retrieve` and `text-retrieve`: every method on the same queries and the same gallery."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.protocols.first_results import first_results
from jaxalign.eval.protocols.image_retrieval import landmark_retrieval, names_find_pictures, retrieval
from jaxalign.eval.protocols.text_retrieval import text_retrieval
from jaxalign.eval.tasks import own
from jaxalign.eval.tasks.heads import image_embeddings, text_embeddings
from jaxalign.eval.tasks.inverting import Inverted, invert_queries
from jaxalign.eval.tasks.methods import (
    BASELINES,
    Embed,
    Method,
    MethodOptions,
    default_methods,
    find_method,
    fit,
)
from jaxalign.eval.tasks.pairs import REFERENCE, CaptionPair, ImagePair
from jaxalign.eval.tasks.runs import Result, Run
from jaxalign.eval.tasks.workspace import Workspace, model_settings


@dataclass(frozen=True)
class Retrieving:
    """What a retrieval measurement does, beside model and data set.

    Attributes:
      methods: names; by default all but inversions.
      options: of the methods.
      tasks: labellings; by default the data set's first one.
      protocol: "paper", or "reference" for what the published code computes (`ja.retrieval_metrics`, and for
        captions `ja.text_retrieval_metrics`); `published` has the splits that it takes.
      text_image: whether class names find their pictures, too (appendix H).
    """

    methods: tuple[str, ...] = ()
    options: MethodOptions = field(default_factory=MethodOptions)
    tasks: tuple[str, ...] = ()
    protocol: str = "paper"
    text_image: bool = False


class Fitting:
    """Methods of one model and modality, fitted once each; what they share is computed once."""

    def __init__(self, workspace: Workspace, model: DualEncoder, gallery: Callable[[], np.ndarray]):
        self.workspace, self.model, self._gallery = workspace, model, gallery
        self._texts: dict[tuple[str, ...], np.ndarray] = {}

    @cached_property
    def spectrum(self) -> ja.Spectrum:
        return ja.decompose(self.model.projectors)

    def embed(self, method: Method) -> Embed:
        """The method as a function from pre-projection features to embeddings."""
        return fit(
            method,
            self.model,
            spectrum=None if method.band is None else self.spectrum,
            subspace_texts=self.subspace_texts(method) if method.texts else None,
            gallery=self._gallery() if method.name == "pca-mean" else None,
        )

    def subspace_texts(self, method: Method) -> np.ndarray:
        """Embeddings of the texts of PCA<-."""
        if method.texts not in self._texts:
            ids = [f"{i}" for i in range(len(method.texts))]
            pre = self.workspace.texts(self.model, "class names of PCA", ids, method.texts)
            self._texts[method.texts] = np.asarray(text_embeddings(self.model, pre))
        return self._texts[method.texts]


def measure_image_retrieval(
    workspace: Workspace, model: DualEncoder, pair: ImagePair, retrieving: Retrieving
) -> list[Run]:
    """Runs of protocol `image-retrieval`, one for each task and method, then those of `text-image`.

    Metrics and arrays are those of `retrieval` or `landmark_retrieval`, and arrays of `first_results`, which
    `jaxalign report` shows pictures of; a method that inverts its queries
    also has `steps`, `mAP_at_step` and `losses`.

    Raises:
      JaxalignError: before any picture is embedded, for an unknown method, task or protocol or a bad option.
    """
    tasks = pair.tasks(retrieving.tasks)
    names = retrieving.methods or default_methods(model, "image", retrieving.options)
    methods = [find_method(name, model, "image", retrieving.options) for name in dict.fromkeys(names)]
    facts = model_settings(model) | pair.settings | {"protocol": retrieving.protocol}
    fitting = Fitting(workspace, model, lambda: pair.gallery_pre)
    runs: dict[str, list[Run]] = {task: [] for task in tasks}
    if pair.has_captions_alone and not retrieving.text_image:
        raise JaxalignError(
            f"{pair.record.name} has captions and neither labels nor lists of positives; let captions find"
            " pictures (--text-image), or captions (`jaxalign text-retrieve`)"
        )
    if pair.has_captions_alone and retrieving.protocol == REFERENCE:
        raise JaxalignError(
            "captions that find pictures have no reference protocol: the published code does what the paper"
            " says; leave out --protocol"
        )
    for method in methods if not pair.has_captions_alone else ():
        embedded: list[tuple[Any, Any, Inverted | None]] = []  # empty as long as all of its runs are found

        def compute(task: str, method: Method = method, embedded: list = embedded) -> Result:
            if not embedded:
                embedded.append(_embed_images(fitting, pair, method))
            return _measure_images(pair, task, retrieving.protocol, *embedded[0])

        for task in tasks:
            settings = facts | {"task": task} | method.to_json()
            runs[task].append(workspace.measure("image-retrieval", settings, lambda t=task, c=compute: c(t)))
    further = measure_text_image(workspace, model, pair, retrieving, fitting) if retrieving.text_image else []
    return [run for task in tasks for run in runs[task]] + further


def _embed_images(fitting: Fitting, pair: ImagePair, method: Method) -> tuple[Any, Any, Inverted | None]:
    """Embeddings of queries and gallery."""
    embed = fitting.embed(method)
    gallery = np.asarray(embed(pair.gallery_pre))
    if not method.inverts:
        own = pair.same and pair.distractors is None
        return gallery if own else np.asarray(embed(pair.query_pre)), gallery, None
    query, lost = pair.read_query.examples, pair.read_query.left_out
    source = (query.dataset, query.state, query.split)
    embedded = np.asarray(embed(pair.query_pre))
    inverted = invert_queries(fitting.workspace, pair.model, method, embedded, query.ids, source, lost)
    return inverted.embeddings, gallery, inverted


def _measure_images(
    pair: ImagePair, task: str, protocol: str, query: Any, gallery: Any, inverted: Inverted | None
) -> Result:
    exclude: Any = False
    mesh = pair.workspace.mesh
    if pair.has_ground_truth:
        measure = lambda q: landmark_retrieval(q, gallery, pair.ground_truth, mesh=mesh)
    else:
        labels, exclude = pair.labels(task), own.exclusion(pair.own)
        measure = lambda q: retrieval(q, gallery, *labels, exclude_self=exclude, protocol=protocol, mesh=mesh)
    result = _with_curve(measure, query, inverted)
    first, (queries, items) = first_results(query, gallery, exclude), pair.positions()
    shown = {  # in the whole splits, which the report has the pictures of
        "shown_queries": queries[first["shown_queries"]].astype(np.int32),
        "first_results": items[first["first_results"]].astype(np.int32),
    }
    return pair.name_left_out(replace(result, arrays={**result.arrays, **shown}))


def _with_curve(measure: Callable[[Any], Result], query: Any, inverted: Inverted | None) -> Result:
    """The result of the queries and, for inverted ones, the mAP after each kept step."""
    result = measure(query)
    if inverted is None:
        return result
    scores = [measure(kept).metrics["mAP"] for kept in inverted.kept[:-1]]
    curve = {
        "steps": inverted.steps,
        "mAP_at_step": np.array([*scores, result.metrics["mAP"]]),
        "losses": inverted.losses.mean(0),
    }
    return replace(result, arrays={**result.arrays, **curve})


def measure_text_image(
    workspace: Workspace,
    model: DualEncoder,
    pair: ImagePair,
    retrieving: Retrieving,
    fitting: Fitting | None = None,
) -> list[Run]:
    """Runs of protocol `text-image`: texts find pictures, with both heads as they are, and filtered by bands.

    The texts are the names of the classes, or every caption where a data set has captions and no labels.
    IsoCLIP's appendix H says that its heads make this worse.
    """
    model.require_text()
    fitting = fitting or Fitting(workspace, model, lambda: pair.gallery_pre)
    names = retrieving.methods or default_methods(model, "image", retrieving.options)
    methods = [find_method(name, model, "image", retrieving.options) for name in dict.fromkeys(names)]
    runs = []
    plain = Method(BASELINES["image"], "image")
    for task in pair.tasks(retrieving.tasks) if not pair.has_ground_truth else ():
        for method in (plain, *(m for m in methods if m.band is not None)):

            def compute(task: str = task, method: Method = method) -> Result:
                texts, labels, gallery_labels = pair.text_features(task)
                if method.band is None:
                    text, gallery = text_embeddings(model, texts), image_embeddings(model, pair.gallery_pre)
                else:
                    heads = ja.isoclip(model.projectors, *method.band, fitting.spectrum)
                    text, gallery = heads.text(texts), heads.image(pair.gallery_pre)
                found = names_find_pictures(
                    np.asarray(text), np.asarray(gallery), labels, gallery_labels, mesh=workspace.mesh
                )
                return pair.name_left_out(found)

            settings = model_settings(model) | pair.settings | pair.text_settings(task) | {"task": task}
            settings |= method.to_json()
            settings["method"] = "text-image" if method is plain else f"text-image {method.name}"
            runs.append(workspace.measure("text-image", settings, compute))
    return runs


def measure_text_retrieval(
    workspace: Workspace, model: DualEncoder, pair: CaptionPair, retrieving: Retrieving
) -> list[Run]:
    """Runs of protocol `text-retrieval`, one for each method; as `measure_image_retrieval`."""
    names = retrieving.methods or default_methods(model, "text", retrieving.options)
    methods = [find_method(name, model, "text", retrieving.options) for name in dict.fromkeys(names)]
    facts = model_settings(model) | pair.settings | {"protocol": retrieving.protocol}
    fitting = Fitting(workspace, model, lambda: pair.pre)

    def compute(method: Method) -> Result:
        gallery = np.asarray(fitting.embed(method)(pair.pre))
        query, inverted, captions = gallery[pair.captions.queries], None, pair.captions
        if method.inverts:
            ids = [captions.ids[i] for i in captions.queries]
            examples = pair.examples
            source = (examples.dataset, examples.state, examples.split)
            inverted = invert_queries(workspace, model, method, query, ids, source)
            query = inverted.embeddings
        measure = lambda q: text_retrieval(
            q, gallery, captions, protocol=retrieving.protocol, mesh=workspace.mesh
        )
        return _with_curve(measure, query, inverted)

    return [
        workspace.measure("text-retrieval", facts | method.to_json(), lambda m=method: compute(m))
        for method in methods
    ]
