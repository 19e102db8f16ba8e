"""Which published checkpoint a model is: its repository or the digest of its file tells, nothing else does.

A fine-tuned model has the original's shapes, mostly its settings, and often its file name. So what a record
of `jaxalign.specs` claims of its checkpoint (`CLAIMS`) is given to what was loaded from its repository, to a
file with a digest of `jaxalign.specs.published`, and to a folder that `jaxalign.save` wrote of such a model
and that has not changed since. Everything else is named after its path and claims nothing.
"""

import hashlib
import json
import os
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxalign.errors import JaxalignError, printable
from jaxalign.local_files import cannot_read, open_regular
from jaxalign.specs import MODELS, ModelSpec, spec_to_json
from jaxalign.specs.published import PUBLISHED
from jaxalign.weights.stored import PART, StoredTensor, on_all_cores

CLAIMS = (
    "name",
    "source",
    "revision",
    "licence",
    "paper",
    "band",
    "text_band",
    "hub_ids",
    "aliases",
)
_LONGEST_NAME = 200


def own(spec: ModelSpec, name: str, source: str) -> ModelSpec:
    """The shape and the settings of `spec`, and none of its claims."""
    nothing: dict[str, Any] = {"revision": None, "licence": "unknown", "paper": "unknown"}
    bands: dict[str, Any] = {"band": None, "text_band": None}
    return replace(spec, name=name, source=source, **nothing, **bands, hub_ids=(), aliases=())


def claimed(spec: ModelSpec, record: ModelSpec) -> ModelSpec:
    """`spec` with all that `record` claims of its checkpoint."""
    return replace(spec, **{name: getattr(record, name) for name in CLAIMS})


def unproven(spec: ModelSpec, path: Path) -> ModelSpec:
    """`spec` as somebody wrote it, without what it says of a published checkpoint that it need not be.

    What it says of a model of its own stays; a name that is a known model's becomes that of `path`.
    """
    if not any(_claims_to_be(record, spec) for record in MODELS.values()):
        return spec
    name = name_after(path) if is_known(spec.name) else spec.name
    return own(spec, name, os.path.abspath(path))


def _claims_to_be(record: ModelSpec, spec: ModelSpec) -> bool:
    if spec.name.casefold() in _names(record):
        return True
    is_published = bool(record.hub_ids) or "://" in record.source
    return is_published and (spec.source == record.source or not _ids(spec).isdisjoint(_ids(record)))


def _ids(spec: ModelSpec) -> set[str]:
    return {name.casefold() for name in spec.hub_ids}


def _names(record: ModelSpec) -> set[str]:
    return {name.casefold() for name in (record.name, *record.hub_ids, *record.aliases)}


def is_known(name: str) -> bool:
    """Whether `name` is that of a known model, or another that `find_spec` takes for it."""
    return any(name.casefold() in _names(record) for record in MODELS.values())


def name_after(path: Path) -> str:
    """The last part of `path`, or all of it where that part is the name of a known model."""
    whole = os.path.abspath(path)
    name = os.path.basename(whole)
    return whole if not name or is_known(name) else name


def renamed(spec: ModelSpec, name: str | None) -> ModelSpec:
    """`spec` under a name of the user's; raises JaxalignError for that of another, known, model."""
    if name is None or name == spec.name:
        return spec
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or printable(name) != name:
        raise JaxalignError(f"name is {name!r:.80}; expected one line of 1 to {_LONGEST_NAME} characters")
    if is_known(name):
        raise JaxalignError(
            f"name is {name!r}, which is a known model's, and {spec.source} is not known to be that; choose"
            " another name"
        )
    return replace(spec, name=name)


def published_as(path: Path, records: Iterable[ModelSpec]) -> ModelSpec | None:
    """That of `records` whose file has the very bytes of the file `path`.

    They are read only where a record has a file of this size: loading anything else costs nothing.

    Raises:
      JaxalignError: a file that cannot be read.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise cannot_read(path, error) from error
    digests = {
        file.sha256: record
        for record in records
        for file in PUBLISHED.get(record.name, ())
        if file.size in (size, None)
    }
    if not digests:
        return None
    with open_regular(path) as file:
        return digests.get(hashlib.file_digest(file, "sha256").hexdigest())


def facts_digest(spec: ModelSpec) -> str:
    """SHA-256 over all facts, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(spec_to_json(spec), sort_keys=True).encode()).hexdigest()


def weights_digest(tensors: Mapping[str, StoredTensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes of all tensors, as hexadecimal digits."""
    names = sorted(tensors)
    checksums = on_all_cores(lambda name: checksum(tensors[name]), names)
    facts = zip(names, checksums, strict=True)
    lines = (f"{n} {tensors[n].dtype} {tensors[n].shape} {found}\n" for n, found in facts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def checksum(tensor: StoredTensor) -> str:
    """SHA-256 of its bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in tensor.parts(PART):
        digest.update(part.view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Origin:
    """What was loaded: with other parameters or settings it is no longer what its record describes."""

    spec: ModelSpec
    arrays: tuple[weakref.ref[jax.Array], ...]

    @classmethod
    def of(cls, spec: ModelSpec, params: Any) -> "Origin":
        return cls(spec, tuple(weakref.ref(leaf) for leaf in jax.tree.leaves(params)))

    def vouches_for(self, spec: ModelSpec, params: Any) -> bool:
        """Whether both are still those that were loaded; name and layout are the user's to choose."""
        leaves = jax.tree.leaves(params)
        return (
            replace(spec, name=self.spec.name, layout=self.spec.layout) == self.spec
            and len(leaves) == len(self.arrays)
            and all(reference() is leaf for reference, leaf in zip(self.arrays, leaves, strict=True))
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Origin, (self.spec, ())  # a copy of the model has arrays of its own
