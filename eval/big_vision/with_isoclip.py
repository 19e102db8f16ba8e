"""big_vision evaluator: any other one, on the model with IsoCLIP's projectors in place of its heads."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.projectors import MODALITIES

from .encode import Encoder, PredictFn
from .evaluation import AUTO, MethodSettings, choose_band
from .heads import with_projectors

API = "jit"  # which kind of trainer this is for, in big_vision's words


class Evaluator:
    """Runs `evaluator` on rewritten parameters: `dict(type="with_isoclip", evaluator="fewshot_lsr", ...)`.

    The heads are those of `isoclip_params`, computed anew for each evaluation. Logs what the evaluator logs.
    Heads that are zero or not finite have no band, and stay as they are.

    Args:
      predict_fn, batch_size, devices: from the trainer.
      evaluator: a type of big_vision's, or registered as one.
      band: `(k_top, k_bottom)`, or "auto" for `ja.select_band`.
      modalities: which heads are filtered, of "image" and "text".
      **settings: those of `evaluator`.

    Raises:
      JaxalignError: an evaluator for pmap-based trainers, or settings that do not fit.
    """

    def __init__(
        self,
        predict_fn: PredictFn,
        *,
        evaluator: str,
        batch_size: int | None,
        devices: Any,
        band: tuple[int, int] | str = AUTO,
        modalities: Sequence[str] = MODALITIES,
        **settings: Any,
    ):
        self._settings, self._modalities = MethodSettings(band), tuple(modalities)
        self._encoder = Encoder(predict_fn, batch_size, devices)
        module = importlib.import_module(f"big_vision.evaluators.{evaluator}")
        if getattr(module, "API", "pmap") != API:
            raise JaxalignError(f"{evaluator} is an evaluator for pmap-based trainers; expected one for jit")
        self._rewrite: Callable | None = None
        self._inner = module.Evaluator(predict_fn, batch_size=batch_size, devices=devices, **settings)

    def run(self, train_state: Any) -> Iterable[tuple[str, Any]]:
        """What `evaluator` gives for the rewritten parameters."""
        projectors = self._encoder.projectors(train_state)
        params = train_state["params"]
        with jax.transfer_guard("allow"):  # of the small heads; trainers forbid implicit transfers
            found = choose_band(self._settings, projectors)
            if found is None:
                return self._inner.run(train_state)
            # From the host, where every process has the same, so that they fit parameters on all devices.
            filtered = jax.device_get(ja.isoclip(projectors, *found))
            if self._rewrite is None:
                self._rewrite = jax.jit(
                    lambda old, heads: with_projectors(old, heads, self._modalities),
                    out_shardings=jax.tree.map(lambda x: x.sharding, params),
                )
            rewritten = self._rewrite(params, filtered)
        return self._inner.run({**train_state, "params": rewritten})
