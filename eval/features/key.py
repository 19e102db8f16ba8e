"""What features depend on: all of it is in the key of their store."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.specs import spec_to_json
from jaxalign.tensors import flatten


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
        return "/".join(re.sub(r"[^\w.+-]+", "_", part) for part in parts)


def make_key(
    model: DualEncoder, dataset: str, version: str, split: str, modality: str, **further: Any
) -> FeatureKey:
    """The key of `model`'s features of a split; `further` are `stage` and `options`."""
    return FeatureKey(
        model=model.name,
        weights=weights_digest(model.params),
        spec=spec_to_json(model.spec),
        dataset=dataset,
        version=version,
        split=split,
        modality=modality,
        dtype=np.dtype(model.dtype).name,
        **further,
    )


def weights_digest(params: Any) -> str:
    """SHA-256 over the sorted parameters: name, shape, dtype and bytes of each."""
    digest = hashlib.sha256()
    for name, tensor in sorted(flatten(params).items()):
        array = np.ascontiguousarray(tensor)
        digest.update(f"{name}{array.shape}{array.dtype.name}".encode())
        digest.update(array.view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
