"""Two-dimensional views of texts, images and projected images (Reevaluating, figure 7)."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import normalize

from .indicators import Indicators
from .methods import find_method, subspace_of
from .runs import Result, Run
from .task import Column, Task

TASK = Task(
    name="view",
    title="Views in two dimensions",
    about="Texts, images, and images projected on the texts' directions.",
    headline="adjusted.shift",
    columns=(
        Column("plain.shift", "shift", None),
        Column("adjusted.shift", "shift with the mean's adjustment", None),
    ),
)

VIEWS = ("pca", "tsne", "umap")
_FEWEST = 5  # points that UMAP can place
_FEW = 3000  # points whose steps take less time than threads need to meet


def embedding_views(
    images: ArrayLike,
    texts: ArrayLike,
    subspace: ja.Subspace,
    *,
    view: str = "pca",
    seed: int = 0,
    labels: np.ndarray | None = None,
) -> Result:
    """Texts, images, and images after PCA<-, in two dimensions, without and with the mean's adjustment
    (eq. 12).

    Args:
      images, texts: embeddings `[n, d]` and `[m, d]`, scaled to length one here.
      subspace: of the class-name texts.
      view: "pca", "tsne" or "umap"; all three kinds of points are in the same view.
      seed: of t-SNE and UMAP.
      labels: int `[n]`, which text is each image's class, where that is known.

    Returns:
      Metrics: `explained`, the share of variance (PCA alone), and for both variants `shift`, the distance
      between the centroids of images and projected images. Arrays: for `plain` and `adjusted`,
      `VARIANT_text` `[m, 2]`, `VARIANT_image` and `VARIANT_projected` `[n, 2]`, and
      `image_class`, the labels.

    Raises:
      JaxalignError: an unknown view, one whose package is missing, or too few points for UMAP.
    """
    if view not in VIEWS:
        raise unknown_name("view", view, VIEWS)
    image, text = (normalize(jnp.asarray(x, jnp.float32)) for x in (images, texts))
    variants = {"plain": subspace.project(image), "adjusted": subspace.project(image, image.mean(0))}
    metrics: dict[str, Any] = {"view": view, "texts": len(text), "images": len(image)}
    arrays: dict[str, np.ndarray] = {} if labels is None else {"image_class": np.asarray(labels)}
    for name, projected in variants.items():
        points = np.asarray(jnp.concatenate([text, image, projected]), np.float64)
        placed, explained = _place(points, view, seed)
        shift = float(jnp.linalg.norm(image.mean(0) - projected.mean(0)))
        metrics[name] = {"shift": shift, "explained": explained}
        parts = np.split(placed.astype(np.float32), [len(text), len(text) + len(image)])
        arrays |= {f"{name}_{kind}": x for kind, x in zip(("text", "image", "projected"), parts, strict=True)}
    return Result(metrics, arrays)


def _place(points: np.ndarray, view: str, seed: int) -> tuple[np.ndarray, float | None]:
    """Points `[n, 2]`, and the share of variance that they explain."""
    if view == "pca":
        centred = points - points.mean(0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        return u[:, :2] * s[:2], float((s[:2] ** 2).sum() / max((s**2).sum(), 1e-30))
    if view == "tsne":
        try:
            from sklearn.manifold import TSNE
            from threadpoolctl import threadpool_limits
        except ImportError as error:
            raise _missing("t-SNE", "scikit-learn") from error
        perplexity = min(30.0, (len(points) - 1) / 3)
        # Threads wait for each other at each of a thousand steps: on a busy machine many times the work.
        with threadpool_limits(1 if len(points) < _FEW else None):
            return TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(points), None
    if len(points) < _FEWEST:
        raise JaxalignError(f"UMAP got {len(points)} points; expected {_FEWEST} or more")
    try:
        with warnings.catch_warnings():  # of a variant that trains a network: TensorFlow is not there
            warnings.simplefilter("ignore", ImportWarning)
            import umap  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _missing("UMAP", "umap-learn") from error
    reducer = umap.UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(points)), None


def _missing(view: str, package: str) -> JaxalignError:
    return JaxalignError(f"{view} needs {package}, which is not installed; pip install 'jaxalign[plots]'")


def measure_view(shown: Indicators, kind: str, seed: int = 0) -> Run:
    """The run of this task: texts, images and projected images in two dimensions."""
    method = find_method("pca", shown.model, "image", shown.indicating.options)

    def compute() -> Result:
        subspace = subspace_of(method, shown.fitting.subspace_texts(method))
        images, texts = shown.baseline(), shown.texts
        with shown.workspace.stages.stage("view", f"{shown.model.name}: {kind} view"):
            return embedding_views(images, texts, subspace, view=kind, seed=seed, labels=shown.labels)

    settings = shown.text_settings | method.to_json() | {"view": kind, "seed": seed}
    return shown.measure(TASK.name, settings, compute)
