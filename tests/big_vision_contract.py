"""What big_vision promises to an evaluator, without big_vision: how a config becomes evaluators, and what the
siglip trainer's `predict_fn` takes and gives. `test_big_vision_repository.py` asks the original.
"""

import importlib
from typing import Any

import jax.numpy as jnp

import jaxalign as ja
from jaxalign.models import TextTower, image_tower

GENERIC = ("pred", "prefix", "skip_first", "log_steps", "log_epochs", "log_examples", "log_percent")


def make_evaluators(evals: dict[str, dict], predict_fn: Any, devices: Any, batch_size: int) -> dict[str, Any]:
    """An evaluator for each entry: `type` is a module below `big_vision.evaluators`, generic settings are
    taken out, `devices` and a batch size are put in, everything else is a keyword."""
    found = {}
    for name, settings in evals.items():
        kind = settings.get("type", name)
        rest = {key: value for key, value in settings.items() if key not in (*GENERIC, "type")}
        module = importlib.import_module("big_vision.evaluators." + kind)
        assert module.API == "jit"
        rest = {"batch_size": batch_size, **rest, "devices": devices}
        found[name] = module.Evaluator(predict_fn, **rest)
    return found


class TwoTowers:
    """`predict_fn(train_state, batch) -> (zimg, ztxt, out)` with big_vision's names of the outputs."""

    def __init__(self, model: ja.DualEncoder):
        self.config = model.config
        self.traces = {"image": 0, "labels": 0}

    def __call__(self, train_state: Any, batch: dict) -> tuple[Any, Any, dict]:
        params, out = train_state["params"], {}
        zimg = ztxt = None
        if (tokens := batch.get("labels")) is not None:
            self.traces["labels"] += 1
            ztxt, _ = TextTower(self.config.text).bind({"params": params["txt"]})(tokens)
            out["txt/norm"] = jnp.linalg.norm(ztxt, axis=1, keepdims=True)
            ztxt = ztxt / (out["txt/norm"] + 1e-8)
        if (pixels := batch.get("image")) is not None:
            self.traces["image"] += 1
            tower = image_tower(self.config.image).bind({"params": params["img"]})
            zimg, inner = tower(pixels)
            if self.config.image.pooling == "map":
                # big_vision's pre_logits come after the residual MLP
                x, _ = tower.Transformer(tower._with_positions(tower.embedding(pixels), None))
                out |= {"img/encoded": x, "img/pre_logits": zimg}
            else:
                out["img/pre_logits"] = inner["pre_logits"]
            out["img/norm"] = jnp.linalg.norm(zimg, axis=1, keepdims=True)
            zimg = zimg / (out["img/norm"] + 1e-8)
        return zimg, ztxt, out
