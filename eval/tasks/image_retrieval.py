"""Images that find images (IsoCLIP, tables 1, 4, S6, S8, S9; Reevaluating, table 3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets.examples import UNLABELLED, count_own, positions_of, renumber_own

from .inverting import Inverted, invert_queries
from .methods import Method, MethodOptions, find_methods
from .pairs import VARIANTS, ImagePair
from .projecting import Fitting
from .runs import Result, Run
from .task import EACH, Column, Task
from .workspace import model_settings

COLUMNS = (
    Column("mAP", "mAP"),
    Column("mAP_at_R", "mAP@R"),
    Column("precision_at_R", "precision@R"),
    Column("recall_at_*", "recall@*"),
)
METRICS = tuple(column.metric.replace(EACH, "1") for column in COLUMNS)  # of a run with the usual recall
DEPTHS = (1,)  # of the recall
DETAILS = (("precision_at_R", "recall_at_1"), "R-precision · recall@1")
LANDMARK_COLUMNS = (  # where lists of positives stand in place of labels
    Column("mAP_easy", "mAP easy"),
    Column("mAP_medium", "mAP medium"),
    Column("mAP_hard", "mAP hard"),
    Column("mP@10_medium", "mP@10 medium"),
)
TASK = Task(
    name="image-retrieval",
    title="Image retrieval",
    about="Images that find images.",
    headline="mAP",
    columns=COLUMNS,
    instead=LANDMARK_COLUMNS,
    compared="mAP",
    details=(DETAILS, (("mAP_medium", "mAP_hard"), "mAP of the medium · of the hard setting")),
)
SHOWN = 400  # queries whose first results a run keeps


@dataclass(frozen=True)
class Retrieving:
    """What a retrieval measurement does, beside model and data set.

    Attributes:
      methods: names; by default all but inversions.
      options: of the methods.
      tasks: labellings; by default the data set's first one.
      variant: "paper", or "reference" for what the published code computes (`ja.retrieval_metrics`, and for
        captions `ja.text_retrieval_metrics`); `pairs` has the splits that it takes.
      recall_at: depths of the recall that is measured, 1 among them.
    """

    methods: tuple[str, ...] = ()
    options: MethodOptions = field(default_factory=MethodOptions)
    tasks: tuple[str, ...] = ()
    variant: str = "paper"
    recall_at: tuple[int, ...] = DEPTHS

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise unknown_name("variant", self.variant, VARIANTS)

    @property
    def depths(self) -> dict[str, Any]:
        """What a run says of the recall: nothing of the depth that all runs have."""
        return {} if self.recall_at == DEPTHS else {"recall_at": list(self.recall_at)}

    @property
    def settings(self) -> dict[str, Any]:
        """What a run says of all of it but methods and tasks."""
        return {"variant": self.variant} | self.depths


def measure_image_retrieval(pair: ImagePair, retrieving: Retrieving) -> list[Run]:
    """Runs of protocol `image-retrieval`, one for each task and method.

    Metrics and arrays are those of `retrieval` or `landmark_retrieval`, first results as positions in the
    whole splits, which `jaxalign report` has the images of; a method that inverts its queries also has
    `steps`, `mAP_at_step` and `losses`. Raises JaxalignError, before any image is embedded, for an unknown
    method, task or variant or a bad option.
    """
    tasks = pair.tasks(retrieving.tasks)
    methods = find_methods(retrieving.methods, pair.model, "image", retrieving.options)
    if pair.has_captions_alone:
        raise JaxalignError(
            f"{pair.record.name} has captions and neither labels nor lists of positives; let captions find"
            " images (--text-image), or captions (`jaxalign text-retrieve`)"
        )
    if pair.has_ground_truth and retrieving.recall_at != DEPTHS:
        raise JaxalignError(
            f"{pair.record.name} is measured by its own protocol, which has no recall; leave out --recall-at"
        )
    facts = model_settings(pair.model) | pair.settings | retrieving.settings
    fitting = Fitting(pair.workspace, pair.model, lambda: pair.gallery_pre)
    runs: dict[str, list[Run]] = {task: [] for task in tasks}
    for method in methods:
        embedded = cache(partial(_embed, fitting, pair, method))  # once for all tasks, if any lacks its run
        for task in tasks:
            settings = facts | {"task": task} | method.to_json()
            compute = lambda task=task, embedded=embedded: _measure(pair, task, retrieving, *embedded())
            runs[task].append(pair.workspace.measure(TASK.name, settings, compute))
    return [run for task in tasks for run in runs[task]]


def _embed(fitting: Fitting, pair: ImagePair, method: Method) -> tuple[Any, Any, Inverted | None]:
    """Embeddings of queries and gallery."""
    query, embed = pair.read.query, fitting.embed(method)
    gallery = np.asarray(embed(pair.gallery_pre))
    if not method.inverts:
        return gallery if query.pre is pair.gallery_pre else np.asarray(embed(query.pre)), gallery, None
    embedded, examples = np.asarray(embed(query.pre)), query.examples
    inverted = invert_queries(
        fitting.workspace, fitting.model, method, embedded, examples.ids, examples, query.left_out
    )
    return inverted.embeddings, gallery, inverted


def _measure(
    pair: ImagePair, task: str, retrieving: Retrieving, query: Any, gallery: Any, inverted: Inverted | None
) -> Result:
    measure: Callable[..., Result]
    if pair.has_ground_truth:
        measure = partial(landmark_retrieval, gallery=gallery, ground_truth=pair.ground_truth)
    else:
        query_labels, gallery_labels = pair.labels(task)
        measure = partial(
            retrieval,
            gallery=gallery,
            query_labels=query_labels,
            gallery_labels=gallery_labels,
            exclude_self=pair.own,
            variant=retrieving.variant,
            recall_at=retrieving.recall_at,
        )
    measure = partial(measure, mesh=pair.workspace.mesh)
    result = with_curve(measure(query, shown=True), measure, inverted)
    whole = dict(zip(("shown_queries", "first_results"), pair.positions(), strict=True))
    shown = {name: rows[result.arrays[name]].astype(np.int32) for name, rows in whole.items()}
    return pair.name_left_out(replace(result, arrays={**result.arrays, **shown}))


def with_curve(result: Result, measure: Callable[[Any], Result], inverted: Inverted | None) -> Result:
    """`result` of inverted queries with the mAP after each kept step; as it is where there are none, or where
    they were taken early."""
    if inverted is None or inverted.stop < inverted.steps[-1]:
        return result
    scores = [measure(kept).metrics["mAP"] for kept in inverted.kept[:-1]]
    curve = {
        "steps": inverted.steps,
        "mAP_at_step": np.array([*scores, result.metrics["mAP"]]),
        "losses": inverted.losses.mean(0),
    }
    return replace(result, arrays={**result.arrays, **curve})


def retrieval(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    exclude_self: bool | ArrayLike = False,
    variant: str = "paper",
    recall_at: Sequence[int] = DEPTHS,
    mesh: Mesh | None = None,
    shown: bool = False,
) -> Result:
    """Retrieval by cosine, an item being relevant when it has the query's label.

    Examples with label -1 have none: they are left out of queries and gallery, and counted.

    Args:
      query, gallery: embeddings `[q, d]` and `[g, d]`, any scale.
      query_labels, gallery_labels: int `[q]` and `[g]`.
      exclude_self: whether query i is gallery item i and leaves its own gallery; or the position of each
        query in the gallery, int `[q]`, or of each one's copies, `[q, m]`, as in `ja.retrieval_metrics`.
      variant: "paper" or "reference", as in `ja.retrieval_metrics`, whose numbers these are.
      recall_at: depths of the recall, 1 to g.
      mesh: devices that the gallery is divided over.
      shown: whether the first results of some queries are kept, for a look at what a method finds.

    Returns:
      Metrics: `mAP`, `mAP_at_R`, `precision_at_R` and, for each depth, `recall_at_K` in percent, and counts,
      among them `queries_in_gallery`, those that left their own. Arrays: `average_precision` float32
      `[queries]` in percent, NaN for a query without positives; and those of `_first_results`.

    Raises:
      JaxalignError: as `ja.retrieval_metrics`, or nothing labelled.
    """
    query_labels, gallery_labels = np.asarray(query_labels), np.asarray(gallery_labels)
    queries, items = (np.flatnonzero(labels != UNLABELLED) for labels in (query_labels, gallery_labels))
    if not queries.size or not items.size:
        raise JaxalignError("no query, or no image of the gallery, has a label; choose another task")
    unlabelled = {
        "unlabelled_queries": len(query_labels) - len(queries),
        "unlabelled_gallery": len(gallery_labels) - len(items),
    }
    if any(unlabelled.values()):
        whole = positions_of(exclude_self, len(query_labels))
        exclude_self = renumber_own(whole, queries, items)
        query, gallery = np.asarray(query)[queries], np.asarray(gallery)[items]
        query_labels, gallery_labels = query_labels[queries], gallery_labels[items]
    found = ja.retrieval_metrics(
        query,
        gallery,
        query_labels,
        gallery_labels,
        exclude_self=exclude_self,
        variant=variant,
        recall_at=recall_at,
        mesh=mesh,
        per_query=True,
    )
    counts = {
        "queries": len(queries),
        "gallery": len(items),
        "queries_in_gallery": count_own(positions_of(exclude_self, len(queries))),
        "queries_without_positives": found["queries_without_positives"],
    }
    arrays = {"average_precision": found["per_query"]["mAP"]}
    if shown:
        at, first = _first_results(found["per_query"]["first_results"])
        arrays |= {"shown_queries": queries[at], "first_results": items[first]}
    notes = []
    if counts["queries_without_positives"]:
        counted = "count as 0" if variant == "reference" else "take no part in the means"
        few = f"{counts['queries_without_positives']:,} of {len(queries):,} queries"
        notes.append(f"{few} have no positive in the gallery, and {counted}")
    means = {name: found[name] for name in found["per_query"] if name in found}
    return Result(means | counts | unlabelled, arrays, notes=notes)


def landmark_retrieval(
    query: ArrayLike,
    gallery: ArrayLike,
    ground_truth: Sequence[Mapping[str, Any]],
    *,
    mesh: Mesh | None = None,
    shown: bool = False,
) -> Result:
    """ROxford and RParis by their own protocol (`ja.revisited_metrics`).

    Args:
      query, gallery: embeddings; distractors after the data set's own images.
      ground_truth: for each query its `easy`, `hard` and `junk` positions.
      mesh, shown: as in `retrieval`.

    Returns:
      Metrics of `ja.revisited_metrics`, and `mAP`, the one of the easy setting, which the papers print.
      Arrays: those of `_first_results`.
    """
    found = ja.revisited_metrics(query, gallery, ground_truth, mesh=mesh, per_query=shown)
    arrays = {}
    if shown:
        at, first = _first_results(found.pop("per_query")["first_results"])
        arrays = {"shown_queries": at, "first_results": first}
    metrics = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in found.items()}
    counts = {"queries": len(ground_truth), "gallery": len(np.asarray(gallery))}
    return Result({"mAP": metrics["mAP_easy"]} | metrics | counts, arrays)


def _first_results(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`shown_queries` int `[m]`, evenly spaced, the same for every method, and `first_results` `[m, k]`.

    Of `first` `[q, 10]` these are the columns in which every query has an item.
    """
    shown = np.linspace(0, len(first) - 1, min(SHOWN, len(first))).round().astype(np.int32)
    return shown, first[shown][:, (first >= 0).all(axis=0)]
