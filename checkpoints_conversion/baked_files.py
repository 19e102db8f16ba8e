"""Models with improved heads, written for a library: only if they give the method's own embeddings."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxalign.baking import BakedHead, as_methods, with_heads
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.weights.identity import weights_digest
from jaxalign.weights.stored import held
from jaxalign.weights.tensors import flatten

from .libraries import Written, write_model

TOLERANCE = 2e-5  # of embeddings of length one: the same products in another order of rounding
_INPUTS = 4  # random images and texts


def write_baked(
    model: DualEncoder,
    heads: Mapping[str, BakedHead],
    dst: Path,
    to: str,
    *,
    methods: str | Sequence[str],
    details: str = "",
) -> dict[str, Any]:
    """Write `model` with `heads`, of `jaxalign.baking.baked_heads`, as a new folder for the library `to`.

    A `README.md` of four lines in it says what was done to which model.

    Args:
      methods: what the heads were made by.
      details: their numbers, for the README.

    Returns:
      `name`, `format`, `heads`, `weights` (SHA-256 over those of the original), `difference` (the largest of
      the embeddings of random inputs, of length one), `tensors` (of each: shape and SHA-256), `notes`.

    Raises:
      JaxalignError: what `write_model` raises, and embeddings that are not those of the heads.
    """
    names = as_methods(methods)
    baked = with_heads(model, heads, f"{model.name} + {' + '.join(names)}")
    digest = weights_digest({name: held(x) for name, x in flatten(model.params).items()})
    done = ", then ".join(names) + (f" ({details})" if details else "")
    report: dict[str, Any] = {"name": baked.name, "format": to, "heads": list(heads), "weights": digest}

    def finish(folder: Path, again: DualEncoder, written: Written, checksums: dict[str, Any]) -> None:
        report["difference"] = largest_difference(model, heads, again)
        if not report["difference"] <= TOLERANCE:  # NaN is not, either
            raise JaxalignError(
                f"the embeddings of what was written depart from those of {done} by"
                f" {report['difference']:.2g}; expected at most {TOLERANCE:g}, so nothing was written"
            )
        report["tensors"], report["notes"] = checksums, list(written.notes)
        readme = _readme(model, list(heads), done, to, digest, written)
        (folder / "README.md").write_text(readme, encoding="utf-8")

    write_model(baked, dst, to, finish=finish)
    return report


def largest_difference(model: DualEncoder, heads: Mapping[str, BakedHead], again: DualEncoder) -> float:
    """The largest between embeddings of random inputs, of length one, by `again` and by the heads.

    A modality without a head is compared with `model` itself.
    """
    text = model.require_text()
    rng = np.random.default_rng(0)
    side = model.config.image.image_size
    pixels = rng.normal(size=(_INPUTS, side, side, 3)).astype(np.float32)
    tokens = rng.integers(0, text.vocabulary, (_INPUTS, text.context)).astype(np.int32)
    if text.end_token is not None:
        tokens[:, -1 - np.arange(_INPUTS) % text.context] = text.end_token
    largest = 0.0
    with jax.default_matmul_precision("highest"):
        for modality, inputs in (("image", pixels), ("text", tokens)):
            apply = f"apply_{modality}"
            head = heads.get(modality)
            expected = (
                head.embed(model, modality, inputs) if head else getattr(model, apply)(model.params, inputs)
            )
            found = getattr(again, apply)(again.params, inputs)
            largest = max(largest, float(np.abs(_unit(expected) - _unit(found)).max()))
    return largest


def _unit(x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _readme(
    model: DualEncoder, heads: Sequence[str], done: str, to: str, digest: str, written: Written
) -> str:
    spec = model.spec
    revision = f", revision {spec.revision}" if spec.revision else ""
    lines = (
        f"{model.name} with {done} in the projectors of {' and '.join(f'{head}s' for head in heads)}.",
        f"From {spec.source}{revision}; SHA-256 over its weights: {digest}.",
        "For images that find images and texts that find texts, by cosine; texts find images with the"
        " original heads (IsoCLIP, appendix H).",
        f"Written for {to} by jaxalign {version('jaxalign')}, read back and compared"
        + "".join(f"; {note}" for note in written.notes)
        + ".",
    )
    return "\n".join(f"- {line}" for line in lines) + "\n"
