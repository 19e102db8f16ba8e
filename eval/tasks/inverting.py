"""Inverted queries in the feature store: hours of optimisation that no interruption loses."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.eval.datasets import Examples
from jaxalign.eval.features.key import make_key
from jaxalign.eval.features.store import FeatureStore
from jaxalign.eval.processes import as_first, own_share, wait_for_all
from jaxalign.sharding import data_mesh

from .methods import Inverter, Inverting, Method
from .workspace import Workspace

_CHUNK = 128  # queries that are lost at most


@dataclass(frozen=True, eq=False)
class Inverted:
    """Queries in the other modality.

    Attributes:
      steps: int `[k]`, after which they are kept; the last one is the end.
      kept: float32 `[k, q, d]`, their embeddings.
      losses: float32 `[q, steps]`, 1 - cosine before each step.
      stop: the one of `steps` after which queries are taken.
    """

    steps: np.ndarray
    kept: np.ndarray
    losses: np.ndarray
    stop: int

    @property
    def embeddings(self) -> np.ndarray:
        """`[q, d]`, after `stop` steps."""
        return self.kept[self.steps.tolist().index(self.stop)]


def invert_queries(
    workspace: Workspace,
    model: DualEncoder,
    method: Method,
    embeddings: np.ndarray,
    ids: Sequence[str],
    examples: Examples,
    left_out: Sequence[str] = (),
) -> Inverted:
    """The inversions of `embeddings` `[q, d]` by a method that inverts; the store keeps whole chunks of them.

    Each query is optimised from its own starting point, so the result does not depend on where an earlier run
    stopped.

    Args:
      ids: of the queries, each once.
      examples: of the split that they are from.
      left_out: ids of the queries of that split that are not among them.
    """
    inverter, inverting = method.inverter, method.inverting
    assert inverter is not None
    assert inverting is not None
    steps, curve = inverting.steps, inverting.curve  # both of which `find_method` sets
    assert steps is not None
    assert curve
    width = embeddings.shape[1]
    options: dict[str, Any] = {"steps": steps, "seed": inverting.seed, "curve": list(curve)}
    if inverting.patches is not None:
        options["patches"] = inverting.patches
    if left_out:
        options["left_out"] = hashlib.sha256("\0".join(left_out).encode()).hexdigest()
    source = (examples.dataset, examples.state, examples.split)
    key = make_key(model, *source, inverter.modality, stage=method.name, options=options)
    # A row holds the embeddings after each kept step, then the losses.
    store = FeatureStore.open(workspace.store, key, list(ids), {}, width * len(curve) + steps, chunk=_CHUNK)
    _fill(workspace, model, method.name, inverter, inverting, embeddings, store)
    values = store.read().values
    kept = values[:, : width * len(curve)].reshape(len(values), len(curve), width)
    losses = values[:, width * len(curve) :]
    return Inverted(np.array(curve), kept.swapaxes(0, 1), losses, inverting.stop or steps)


def _fill(
    workspace: Workspace,
    model: DualEncoder,
    name: str,
    inverter: Inverter,
    inverting: Inverting,
    embeddings: np.ndarray,
    store: FeatureStore,
) -> None:
    curve = inverting.curve or ()
    what = f"{model.name}: inverting {len(embeddings)} queries ({name}, {inverting.steps} steps)"
    missing = store.missing()
    if as_first(not missing):
        return
    with store.locked():
        missing = store.missing(among=missing)
        with workspace.stages.stage(name, what, len(embeddings)) as advance:
            advance(len(embeddings) - sum(len(store.rows_of(chunk)) for chunk in missing))
            mine = own_share(missing, "missing inversions")
            for chunk in mine:
                count = len(store.rows_of(chunk))
                # a last chunk that is half full or more is filled up with its own: one program serves all
                fills = len(embeddings) > _CHUNK and 2 * count >= _CHUNK
                rows = np.resize(store.rows_of(chunk), _CHUNK if fills else count)
                found = inverter.invert(
                    model,
                    embeddings[rows],
                    steps=inverting.steps,
                    key=jax.random.key(inverting.seed),
                    indices=rows,
                    patches=inverting.patches,
                    keep=curve,
                    on_batch=lambda part, _, count=count: advance(int((part < count).sum())),
                    mesh=data_mesh(jax.local_devices()),
                )
                kept = [np.asarray(found.kept[step]) for step in curve]
                store.write(chunk, np.concatenate([*kept, np.asarray(found.losses)], axis=1)[:count])
            wait_for_all("inverted")
            if len(mine) < len(missing):
                advance(sum(len(store.rows_of(chunk)) for chunk in set(missing) - set(mine)))
