"""What features depend on: all of it is in the key of their store."""

import dataclasses
import hashlib
import json
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.heads import pre_projection_name
from jaxalign.inputs.tokenization import Tokenizer
from jaxalign.specs import spec_to_json
from jaxalign.weights.tensors import flatten

# Raised whenever a change of the program changes what it computes of the same file or text: how images are
# decoded, preprocessed or embedded. Stores of another number are not found again.
FEATURES = 2
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
      stage: `pre` (before the projector), the method that inverted them, and what else is stored.
      dtype: what the towers compute in.
      options: further settings of the stage, a prompt template or the settings of an inversion.
      tokenizer: digest of the tokenizer, where texts take part.
      precision: of products, where `JAX_DEFAULT_MATMUL_PRECISION` sets it.
      program: `FEATURES` of the program that computed them.
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
    tokenizer: str = ""
    precision: str = "default"
    program: int = FEATURES

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
    is_pre = further.get("stage", "pre") == "pre"
    if same and is_pre:
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
        tokenizer="" if modality == "image" and is_pre else tokenizer_digest(model.tokenizer),
        precision=product_precision(),
        **further,
    )


def product_precision() -> str:
    """What JAX is configured to multiply in, `default` where it is not."""
    return str(jax.config.values["jax_default_matmul_precision"] or "default")


def spec_digest(model: DualEncoder) -> str:
    """Sixteen hexadecimal digits that stand for all facts of a model: activations, preprocessing, heads."""
    text = json.dumps(spec_to_json(model.spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Last:
    """The digest of what was asked about last, none of which it keeps in memory."""

    def __init__(self):
        self._names: tuple[str, ...] | None = None
        self._things: list[weakref.ref] = []
        self._digest, self._lock = "", threading.Lock()

    def __call__(self, names: tuple[str, ...], things: Sequence[Any], compute: Callable[[], str]) -> str:
        """That of `things`, called `names`: remembered, or what `compute` gives."""
        with self._lock:
            known = names == self._names and all(
                reference() is thing for reference, thing in zip(self._things, things, strict=True)
            )
            if not known:
                self._digest = compute()
                self._names, self._things = names, [weakref.ref(thing) for thing in things]
            return self._digest


_last_tokenizer, _last_weights = _Last(), _Last()


def tokenizer_digest(tokenizer: Tokenizer | None) -> str:
    """Sixteen hexadecimal digits that stand for the vocabulary and its layout; empty without a tokenizer.

    Remembered for the last tokenizer, as writing down a vocabulary of 256,000 pieces takes a second.
    """
    if tokenizer is None:
        return ""
    return _last_tokenizer(("tokenizer",), [tokenizer], lambda: _vocabulary_digest(tokenizer))


def _vocabulary_digest(tokenizer: Tokenizer) -> str:
    names = [f.name for f in dataclasses.fields(tokenizer) if f.name != "vocabulary"]
    layout = {name: repr(getattr(tokenizer, name)) for name in names}
    vocabulary = tokenizer.vocabulary
    facts = json.dumps([type(vocabulary).__name__, len(vocabulary), layout], sort_keys=True)
    digest = hashlib.sha256(facts.encode())
    for name, content in sorted(vocabulary.files().items()):
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


def weights_digest(params: Any) -> str:
    """SHA-256 over the sorted parameters: name, shape, dtype and bytes of each.

    Remembered for the last parameters, as reading those of a large model takes a second for each gigabyte.
    """
    tensors = sorted(flatten(params).items())
    if not all(isinstance(tensor, jax.Array) for _, tensor in tensors):  # NumPy's can change
        return _digest(tensors)
    names = tuple(name for name, _ in tensors)
    return _last_weights(names, [tensor for _, tensor in tensors], lambda: _digest(tensors))


def _digest(tensors: Iterable[tuple[str, Any]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors:
        array = np.ascontiguousarray(tensor)
        digest.update(f"{name}{array.shape}{array.dtype.name}".encode())
        digest.update(array.view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
