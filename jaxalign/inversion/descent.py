"""AdamW on the inputs of a frozen tower, every example an optimisation of its own."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PATIENCE = 10  # steps without progress after which an example has converged


@dataclass(frozen=True)
class Descent:
    """The settings of an optimisation; equal ones share a compilation.

    Attributes:
      keep: step counts whose embeddings come back too.
      tolerance: an example whose loss has not fallen by this much in `PATIENCE` steps is left as it is; None
        to use all steps.
    """

    steps: int
    learning_rate: float
    weight_decay: float
    keep: tuple[int, ...]
    tolerance: float | None


class Outcome(NamedTuple):
    """Of a batch of b examples: tokens [b, p, D], embeddings [b, d], losses [b, steps], embeddings at `keep`
    [k, b, d], and how many updates each example had, [b]."""

    tokens: jax.Array
    embeddings: jax.Array
    losses: jax.Array
    kept: jax.Array
    updates: jax.Array


class _State(NamedTuple):
    step: jax.Array
    tokens: jax.Array
    optimizer: Any
    embeddings: jax.Array  # of the tokens before the latest update
    losses: jax.Array  # [steps + 1, b]
    kept: jax.Array
    best: jax.Array  # [b], the loss that progress is measured from
    stalled: jax.Array  # [b], steps since then
    active: jax.Array  # [b]
    updates: jax.Array


@partial(jax.jit, static_argnums=(0, 1), donate_argnames="tokens")
def descend(path: Any, descent: Descent, prepared: Any, targets: jax.Array, tokens: jax.Array) -> Outcome:
    """Move `tokens` [b, p, D] until the embeddings of `path` point where `targets` [b, d] do.

    AdamW with betas 0.9 and 0.999 and eps 1e-8. The loss is `1 - cosine`; the gradient of its sum holds every
    example's own, and AdamW works element by element. Tokens and optimiser state keep their dtype, float32,
    whatever the tower computes in.
    """
    import optax

    optimizer = optax.adamw(descent.learning_rate, 0.9, 0.999, 1e-8, weight_decay=descent.weight_decay)
    targets = targets / jnp.linalg.norm(targets, axis=-1, keepdims=True)
    keep = jnp.array(descent.keep, jnp.int32)[:, None, None]
    tolerance = -jnp.inf if descent.tolerance is None else descent.tolerance

    def objective(tokens: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        z = path(prepared, tokens)
        z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
        loss = 1 - (z * targets).sum(-1) / jnp.linalg.norm(z, axis=-1)
        return loss.sum(), (loss, z)

    def step(s: _State) -> _State:
        gradient, (loss, z) = jax.grad(objective, has_aux=True)(s.tokens)
        progress = loss < s.best - tolerance
        stalled = jnp.where(progress, 0, s.stalled + 1)
        active = (stalled < PATIENCE) & (s.step < descent.steps)
        change: Any
        change, state = optimizer.update(gradient, s.optimizer, s.tokens)
        return _State(
            s.step + 1,
            jnp.where(active[:, None, None], s.tokens + change, s.tokens),
            state,
            z,
            s.losses.at[s.step].set(loss),
            jnp.where(keep == s.step, z, s.kept),
            jnp.where(progress, loss, s.best),
            stalled,
            active,
            s.updates + active,
        )

    # One evaluation more than updates: the last one gives the embeddings, with no second tower to compile.
    end = jax.lax.while_loop(
        lambda s: s.active.any(), step, _start(optimizer.init(tokens), tokens, targets, descent)
    )
    evaluated = jnp.arange(descent.steps + 1)[:, None] < end.step
    losses = jnp.where(evaluated, end.losses, end.losses[end.step - 1])
    kept = jnp.where(keep < end.step, end.kept, end.embeddings)
    return Outcome(end.tokens, end.embeddings, losses[:-1].T, kept, end.updates)


def _start(optimizer: Any, tokens: jax.Array, targets: jax.Array, descent: Descent) -> _State:
    n = len(tokens)
    floats, counts = jnp.zeros(n, targets.dtype), jnp.zeros(n, jnp.int32)
    return _State(
        step=jnp.zeros((), jnp.int32),
        tokens=tokens,
        optimizer=optimizer,
        embeddings=jnp.zeros_like(targets),
        losses=jnp.zeros((descent.steps + 1, n), targets.dtype),
        kept=jnp.zeros((len(descent.keep), *targets.shape), targets.dtype),
        best=floats + jnp.inf,
        stalled=counts,
        active=counts == 0,
        updates=counts,
    )
