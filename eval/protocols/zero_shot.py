"""Classification by class names alone (CLIP; the first rows of IsoCLIP's tables 3 and S7)."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.tasks.runs import Result

from .classification import classify


def zero_shot(
    features: ArrayLike, labels: ArrayLike, prompts: ArrayLike, *, mesh: Mesh | None = None
) -> Result:
    """Cosine of picture embeddings with the embedding of each class's prompts.

    Args:
      features: embeddings `[n, d]` of pictures.
      labels: int `[n]`.
      prompts: embeddings `[c, t, d]` of t prompts for each class, averaged as `ja.ensemble_text_weights`
        does.
      mesh: devices that the features are divided over.

    Raises:
      JaxalignError: labels out of range, or embeddings of different widths.
    """
    weights = text_weights(prompts)
    return classify(ja.zero_shot_classifier(weights), features, labels, len(weights), mesh=mesh)


def text_weights(prompts: ArrayLike) -> jax.Array:
    """One unit vector for each class, `[c, d]`, of prompt embeddings `[c, t, d]`."""
    prompts = jnp.asarray(prompts)
    if prompts.ndim != 3:
        raise JaxalignError(
            f"prompts have shape {prompts.shape}; expected [c, t, d]: classes, templates, width"
        )
    return ja.ensemble_text_weights(prompts)
