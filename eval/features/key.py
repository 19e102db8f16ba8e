"""What features depend on: all of it is in the key of their store."""

import dataclasses
import hashlib
import json
import re
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.heads import pre_projection_name
from jaxalign.specs import spec_to_json
from jaxalign.tensors import flatten

_LONGEST = 200  # characters of a folder's name, of 255 that file systems take


@dataclasses.dataclass(frozen=True)
class FeatureKey:
    """Everything that changes a stored feature.

    Attributes:
      model: name of the checkpoint, for people.
      weights: SHA-256 of every parameter with its name, shape and dtype.
      spec: the model's facts as JSON: revision, activations, preprocessing, tokenizer.
      dataset: name of the data set.
      version: of the data set.
      split: of the data set.
      modality: `image` or `text`.
      stage: `pre` (before the projector), `oti` or `ovi` (inverted), and what else is stored.
      dtype: what the towers compute in.
      options: further settings of the stage, a prompt template or the settings of an inversion.
    """

    model: str
    weights: str
    spec: Mapping[str, Any]
    dataset: str
    version: str
    split: str
    modality: str
    dtype: str
    stage: str = "pre"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 of every field, as hexadecimal digits."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def folder(self) -> str:
        """Where its store lies below the root: readable, and different for different keys."""
        parts = (self.dataset, self.split, f"{self.model}-{self.modality}-{self.stage}-{self.digest[:16]}")
        return "/".join(re.sub(r"[^\w.+-]+", "_", part, flags=re.ASCII)[-_LONGEST:] for part in parts)


def make_key(
    model: DualEncoder, dataset: str, version: str, split: str, modality: str, **further: Any
) -> FeatureKey:
    """The key of `model`'s features of a split; `further` are `stage` and `options`.

    Features before the projectors are those of the paper's layout, and shared with it, where `spec.layout`
    changes the projectors alone.
    """
    spec, paper = model.spec, model.spec.with_layout("paper")
    same = modality == "text" or pre_projection_name(spec) == pre_projection_name(paper)
    if same and further.get("stage", "pre") == "pre":
        spec = paper
    return FeatureKey(
        model=model.name,
        weights=weights_digest(model.params),
        spec=spec_to_json(spec),
        dataset=dataset,
        version=version,
        split=split,
        modality=modality,
        dtype=np.dtype(model.dtype).name,
        **further,
    )


def weights_digest(params: Any) -> str:
    """SHA-256 over the sorted parameters: name, shape, dtype and bytes of each.

    Remembered for the last parameters, as reading those of a large model takes a second for each gigabyte.
    """
    tensors = sorted(flatten(params).items())
    if not all(isinstance(tensor, jax.Array) for _, tensor in tensors):  # NumPy's can change
        return _digest(tensors)
    with _REMEMBERING:
        last = _remembered.get("last")
        if last is None or not last.is_of(tensors):
            references = [(name, weakref.ref(tensor)) for name, tensor in tensors]
            last = _remembered["last"] = _Remembered(references, _digest(tensors))
    return last.digest


@dataclasses.dataclass(frozen=True)
class _Remembered:
    """The digest of parameters that it does not keep in memory."""

    tensors: list[tuple[str, weakref.ref]]
    digest: str

    def is_of(self, tensors: list[tuple[str, Any]]) -> bool:
        return len(tensors) == len(self.tensors) and all(
            name == known and tensor is reference()
            for (name, tensor), (known, reference) in zip(tensors, self.tensors, strict=True)
        )


_remembered: dict[str, _Remembered] = {}
_REMEMBERING = threading.Lock()


def _digest(tensors: Iterable[tuple[str, Any]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors:
        array = np.ascontiguousarray(tensor)
        digest.update(f"{name}{array.shape}{array.dtype.name}".encode())
        digest.update(array.view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
