"""What a checkpoint says of itself beside its tensors, and which known model it therefore is."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTowerConfig, ResNetConfig, TwoTowersConfig
from jaxalign.specs import ModelSpec, find_spec
from jaxalign.stored import StoredTensor

from .config_facts import UNKNOWN_TOKENS
from .config_facts import Facts as Facts
from .engine import Table
from .sizes import fit_towers, tell_heads

OPENAI_PAPER = "CLIP, arXiv:2103.00020"
# Up to here all published models of these kinds have heads 64 wide; those of wider ones are 64 to 112 wide.
_UNIFORM_WIDTH = 1024


def choose_spec(
    table: Table, found: Mapping[str, StoredTensor], facts: Facts, name: str, *, is_torchscript: bool = False
) -> ModelSpec:
    """The record of a checkpoint: a known model's where one fits, else one of its kind in other sizes.

    Sizes come from the tensors' shapes and from `facts`; what no file says (heads are as wide as in the known
    models of the format, activation, preprocessing) from the known models.

    Args:
      name: of the file or folder; decides where it is what a known model's file is called.
      is_torchscript: OpenAI's archives are; nobody else publishes such.

    Raises:
      JaxalignError: known models that fit and differ in what they compute, or heads that nothing tells.
    """
    known = [find_spec(model) for model in table.models]
    named = [s for s in known if name in (s.name, *s.aliases)]
    if is_torchscript and not named:
        named = [s for s in known if s.paper == OPENAI_PAPER]
    fitted = {s: _fit(s, table, found, facts) for s in named or known}
    exact = [s for s in fitted if fitted[s].towers == s.towers]
    pool = exact or list(fitted)
    if len({fitted[s].towers for s in pool}) > 1:
        raise JaxalignError(
            f"{name} may be {' or '.join(s.name for s in pool)}, which differ in what they compute; say"
            " which: jaxalign.load(..., spec=NAME) or `jaxalign convert --spec NAME`"
        )
    if not exact and not tell_heads(table, found):
        _check_heads(pool[0], fitted[pool[0]], facts)
    best = max(pool, key=lambda s: _likeness(s.towers, fitted[s].towers))
    if exact:
        return fitted[best]
    return replace(
        fitted[best],
        name=name,
        source=name,
        revision=None,
        licence="unknown",
        band=None,
        text_band=None,
        hub_ids=(),
        aliases=(),
    )


def _fit(spec: ModelSpec, table: Table, found: Mapping[str, StoredTensor], facts: Facts) -> ModelSpec:
    towers = fit_towers(spec, table, found)
    image = replace(towers.image, **facts.image)
    text = towers.text and replace(towers.text, **facts.text)
    changes: dict[str, Any] = dict(facts.spec)
    shortest = changes.get("resize_size", spec.resize_size)
    if shortest is not None and (shortest == image.image_size or "resize_size" not in changes):
        # the shortest side and the crop are one, or the known model's is too small for this one's
        changes["resize_size"] = shortest if shortest > image.image_size else None
    if text is not None and text.pooling == "argmax" and text.end_token == text.vocabulary - 1:
        text = replace(text, pooling=None if text.causal else "end")  # no id is larger than the end token's
    if text is not None and spec.vocabulary == "clip-bpe" and text.end_token is None:
        changes = {**UNKNOWN_TOKENS, **changes}
    if isinstance(image, ImageTowerConfig):
        changes["inversion_patches"] = min(spec.inversion_patches, image.num_patches)
    return replace(spec, towers=replace(towers, image=image, text=text), **changes)


def _check_heads(known: ModelSpec, fitted: ModelSpec, facts: Facts) -> None:
    """No shape says how many heads there are: as wide as in the known model, where that is no guess."""
    towers: list[tuple[Any, Any, Mapping[str, Any]]] = [
        (known.towers.image, fitted.towers.image, facts.image)
    ]
    if known.towers.text and fitted.towers.text:
        towers.append((known.towers.text, fitted.towers.text, facts.text))
    for like, tower, said in towers:
        if "heads" in said or tower.width == like.width:
            continue
        leaves_rest = tower.heads == 1 and tower.width % (like.width // like.heads)
        if leaves_rest or (tower.width > _UNIFORM_WIDTH and not isinstance(tower, ResNetConfig)):
            raise JaxalignError(
                f"nothing says how many heads a tower of width {tower.width} has; put a configuration that"
                " does beside the weights, or pass all facts: jaxalign.load(..., spec=ModelSpec(...))"
            )


def _likeness(a: TwoTowersConfig, b: TwoTowersConfig) -> int:
    """In how many fields two models are equal."""
    pairs = [(a.image, b.image), *([(a.text, b.text)] if a.text and b.text else [])]
    return sum(getattr(x, f.name) == getattr(y, f.name) for x, y in pairs for f in fields(x))
