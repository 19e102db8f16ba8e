"""No degree of freedom is left: image-image similarities out of image-text ones (Reevaluating, 3.1 and
appendix A)."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.features import normalize

from .indicators import Indicators
from .methods import find_method
from .runs import Result, Run
from .task import Column, Task

TASK = Task(
    name="degrees-of-freedom",
    title="Degrees of freedom",
    about="Similarities of images, recovered from their similarities to texts.",
    headline="with_texts.largest_error",
    columns=(
        Column("unknowns", "unknowns"),
        Column("equations", "equations"),
        Column("with_texts.largest_error", "largest error with the texts", None),
        Column("without_texts.largest_error", "largest error without the texts", None),
    ),
)

_PAIRS = 4096  # whose similarities are compared


def degrees_of_freedom(images: ArrayLike, texts: ArrayLike) -> Result:
    """Recover the similarities of images from their similarities to texts, and compare with the true ones.

    With the texts at hand (eq. 2, d texts or more), and without them (appendix A, which needs d (d + 1) / 2
    images too); what the counts do not allow is None.

    Args:
      images: embeddings `[n, d]`, scaled to length one here.
      texts: embeddings `[t, d]`, likewise.

    Returns:
      Metrics: `unknowns`, `equations`, `condition_number` of the texts, and `with_texts` and `without_texts`,
      each with `largest_error` and `root_mean_square_error` of a cosine, the latter with `residual`,
      `iterations` and `converged`. With hardly more images than unknowns, or images that are much alike,
      it takes so many iterations that the recovery stops before the errors are those of rounding.

    Raises:
      JaxalignError: fewer texts than d, or texts that do not span d dimensions.
    """
    images, texts = (np.asarray(normalize(jnp.asarray(x, jnp.float32)), np.float64) for x in (images, texts))
    n, d = images.shape
    similarities = texts @ images.T
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, n, (2, _PAIRS))
    truth = np.sum(images[pairs[0]] * images[pairs[1]], axis=1)

    recovered = np.asarray(ja.recover_image_embeddings(similarities, texts), np.float64)
    with_texts = _errors(np.sum(recovered[pairs[0]] * recovered[pairs[1]], axis=1), truth)
    without_texts = None
    if n >= d * (d + 1) // 2:
        found = ja.recover_intra_similarities(_mixtures(similarities, 2 * d, rng), d)
        products = np.einsum("nd,de,ne->n", found.basis[pairs[0]], found.gram, found.basis[pairs[1]])
        without_texts = _errors(products, truth) | {
            "residual": float(found.residual),
            "iterations": int(found.iterations),
            "converged": bool(found.converged),
        }
    metrics = {
        "unknowns": d * (d + 1) // 2,
        "equations": n,
        "condition_number": ja.anchor_conditioning(texts).condition_number,
        "with_texts": with_texts,
        "without_texts": without_texts,
    }
    return Result(metrics)


def _mixtures(similarities: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` random mixtures `[count, n]` of the rows `[t, n]`.

    Twice as many as the width span what all rows do, and the recovery takes nothing else of them; its time
    grows with the square of their number.
    """
    texts = len(similarities)
    if texts <= count:
        return similarities
    return rng.normal(size=(count, texts)) @ similarities / texts**0.5


def _errors(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    error = np.abs(found - truth)
    return {"largest_error": float(error.max()), "root_mean_square_error": float(np.sqrt(np.mean(error**2)))}


def measure_degrees_of_freedom(shown: Indicators) -> Run:
    """The run of this task, with the class names' and PCA<-'s texts as anchors."""
    method = find_method("pca", shown.model, "image", shown.indicating.options)

    def compute() -> Result:
        anchors = np.concatenate([shown.texts, shown.fitting.subspace_texts(method)])
        images = shown.baseline()
        with shown.workspace.stages.stage("recover", f"{shown.model.name}: recovering similarities"):
            return degrees_of_freedom(images, anchors)

    return shown.measure(TASK.name, shown.text_settings | method.to_json(), compute)
