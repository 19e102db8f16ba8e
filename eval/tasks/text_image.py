"""Texts that find images (IsoCLIP, appendix H): the names of classes, or captions."""

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError

from .image_retrieval import COLUMNS, DEPTHS, DETAILS, Retrieving, retrieval
from .methods import BASELINES, Method, find_methods
from .pairs import REFERENCE, ImagePair
from .projecting import Fitting, check_needs, image_embeddings, text_embeddings
from .runs import Result, Run
from .task import Task
from .workspace import model_settings

TASK = Task(
    name="text-image",
    title="Names find images",
    about="Class names that find their images: the inter-modal reference.",
    headline="mAP",
    columns=COLUMNS,
    compared="mAP",
    details=(DETAILS,),
)


def measure_text_image(pair: ImagePair, retrieving: Retrieving) -> list[Run]:
    """Runs of protocol `text-image`: texts find images, by the projectors as they are, and filtered by bands.

    The texts are the names of the classes, or every caption where a data set has captions and no labels.
    IsoCLIP's appendix H says that its projectors make this worse, and that the original ones can be kept for
    it: the gallery holds pre-projection features.
    """
    model = pair.model
    check_needs(model, "the search by texts", ("towers",))
    model.require_text()
    if pair.has_captions_alone and retrieving.variant == REFERENCE:
        raise JaxalignError(
            "captions that find images have no reference variant: the published code does what the paper"
            " says; leave out --variant"
        )
    fitting = Fitting(pair.workspace, model, lambda: pair.gallery_pre)
    plain = Method(BASELINES["image"], "image")
    methods = find_methods(retrieving.methods, model, "image", retrieving.options)
    runs = []
    for task in pair.tasks(retrieving.tasks) if not pair.has_ground_truth else ():
        texts = cache(partial(pair.text_features, task))  # read once for all methods
        for method in (plain, *(m for m in methods if m.band is not None)):
            settings = model_settings(model) | pair.settings | pair.text_settings(task) | {"task": task}
            settings |= retrieving.depths | method.to_json()
            settings["method"] = TASK.name if method is plain else f"{TASK.name} {method.name}"
            compute = lambda texts=texts, m=method: _measure(fitting, pair, m, retrieving.recall_at, texts())
            runs.append(pair.workspace.measure(TASK.name, settings, compute))
    return runs


def _measure(
    fitting: Fitting, pair: ImagePair, method: Method, recall_at: Sequence[int], found: tuple[np.ndarray, ...]
) -> Result:
    texts, labels, gallery_labels = found
    if method.band is None:
        text, gallery = text_embeddings(pair.model, texts), image_embeddings(pair.model, pair.gallery_pre)
    else:
        heads = ja.isoclip(pair.model.projectors, *method.band, fitting.spectrum)
        text, gallery = heads.text(texts), heads.image(pair.gallery_pre)
    given = (np.asarray(text), np.asarray(gallery), labels, gallery_labels)
    return pair.name_left_out(names_find_images(*given, recall_at=recall_at, mesh=pair.workspace.mesh))


def names_find_images(
    text: ArrayLike,
    gallery: ArrayLike,
    text_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    recall_at: Sequence[int] = DEPTHS,
    mesh: Mesh | None = None,
) -> Result:
    """Text-to-image retrieval: a class name, or a caption, finds its images (IsoCLIP, appendix H).

    Args:
      text: embeddings `[t, d]` of prompts, one or more for each label.
      gallery: embeddings `[g, d]` of images.
      text_labels, gallery_labels: int; texts whose label no image has are left out.
      recall_at: depths of the recall.
      mesh: devices that the gallery is divided over.
    """
    text_labels, gallery_labels = np.asarray(text_labels), np.asarray(gallery_labels)
    present = np.isin(text_labels, gallery_labels)
    if not present.any():
        raise JaxalignError("none of the texts has an image of its label in the gallery; check the labels")
    given = (np.asarray(text)[present], gallery, text_labels[present], gallery_labels)
    return retrieval(*given, recall_at=recall_at, mesh=mesh)
