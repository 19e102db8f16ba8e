"""What a checkpoint says of itself beside its tensors, and which settings it therefore has."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTowerConfig, ResNetConfig, TwoTowersConfig
from jaxalign.specs import ModelSpec, find_spec
from jaxalign.weights.identity import own
from jaxalign.weights.stored import StoredTensor

from .engine import Format
from .facts import UNKNOWN_TOKENS
from .facts import Facts as Facts
from .sizes import fit_towers, tell_heads

OPENAI_PAPER = "CLIP, arXiv:2103.00020"
# Up to here all published models of these kinds have heads 64 wide; those of wider ones are 64 to 112 wide.
_UNIFORM_WIDTH = 1024
_PREPROCESSING = ("resize", "interpolation", "mean", "std", "pipeline", "resize_size")
_TOKENS = ("tokens", "start_token", "pad_token", "vocabulary", "cleaning")
_COMPUTED = ("activation", "norm_epsilon", "causal")  # of a tower: no shape shows them


def choose_spec(
    format: Format,
    found: Mapping[str, StoredTensor],
    facts: Facts,
    name: str,
    *,
    source: str | os.PathLike[str] = "",
    stated: ModelSpec | None = None,
    published: ModelSpec | None = None,
    is_torchscript: bool = False,
) -> ModelSpec:
    """The facts of a checkpoint: sizes from its tensors, settings from `facts` and the models of its format.

    What a tower computes and no file says is taken from the format's known models as far as they are of one
    mind: heads as wide, the activation. Where they differ, that is an error. Preprocessing that neither a
    file nor the user says, nor the format's own code alone, is left open, and so are tokens in which those
    models differ: `mean` or `vocabulary` is None, and images have to be passed preprocessed, texts as tokens.

    Args:
      name: what the model is called: it is nobody's record here, see `jaxalign.weights.identity`.
      source: the path.
      stated: the known model whose settings it has, by the user's word.
      published: the known model whose file it is, by its digest; its settings are then those that no
        configuration says.
      is_torchscript: OpenAI's archives are, and their code has one activation and one preprocessing.

    Raises:
      JaxalignError: settings that are not said, or that `stated` and `facts` say differently, or heads that
        nothing tells.
    """
    if stated is not None:
        _check_agreement(stated, facts)
        records = [_in_kind_of(format, stated)]
    else:
        records = [published] if published else _candidates(format, is_torchscript)
    fitted = {record: _fit(record, format, found, facts) for record in records}
    # registers are there or not, as no size is
    fitted = {r: s for r, s in fitted.items() if _has_registers(r) == _has_registers(s)} or fitted
    if len({_computation(spec) for spec in fitted.values()}) > 1:
        raise _ambiguous(name, fitted)
    best = max(fitted, key=lambda record: _likeness(record.towers, fitted[record].towers))
    if fitted[best].towers != best.towers and not tell_heads(format, found):
        _check_heads(best, fitted[best], facts)
    is_told = stated or published or "mean" in facts.spec or format.one_preprocessing
    is_told = is_told or (is_torchscript and best.paper == OPENAI_PAPER)
    chosen = _leave_open(fitted[best], list(fitted.values()), told=bool(is_told))
    return own(chosen, name, os.fspath(source) or name)


def _candidates(format: Format, is_torchscript: bool) -> list[ModelSpec]:
    """The known models of a format, and those in their shape with the settings of others of its library."""
    records = [*format.models, *(_in_kind_of(format, find_spec(name)) for name in format.settings)]
    openai = [record for record in records if record.paper == OPENAI_PAPER]
    return openai if is_torchscript and openai else records


def _in_kind_of(format: Format, stated: ModelSpec) -> ModelSpec:
    """`stated`; where its image tower is of another kind than the format's, only its settings."""
    towers, other = format.models[0].towers, stated.towers
    if isinstance(towers.image, ResNetConfig) == isinstance(other.image, ResNetConfig):
        return stated
    if towers.text is None or other.text is None:
        raise JaxalignError(f"spec {stated.name!r} is of another kind than {format.name}; expected one of it")
    text = replace(towers.text, activation=other.text.activation)
    return replace(stated, towers=replace(towers, text=text))


def _fit(spec: ModelSpec, format: Format, found: Mapping[str, StoredTensor], facts: Facts) -> ModelSpec:
    towers = fit_towers(spec, format, found)
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


def _has_registers(spec: ModelSpec) -> bool:
    return bool(getattr(spec.towers.image, "registers", 0))


def _computation(spec: ModelSpec) -> tuple[Any, ...]:
    """All that a model computes but how many heads it has, which is another question: `_check_heads`."""
    image, text = spec.towers.image, spec.towers.text
    towers = replace(spec.towers, image=replace(image, heads=1), text=text and replace(text, heads=1))
    return (towers, spec.position_resampling)


def _ambiguous(name: str, fitted: Mapping[ModelSpec, ModelSpec]) -> JaxalignError:
    """The error that names the records of each way to compute, of those alike in size, and what differs."""
    groups: dict[Any, list[ModelSpec]] = {}
    for record, spec in fitted.items():
        groups.setdefault(_computation(spec), []).append(record)
    exact = [record for record, spec in fitted.items() if spec.towers == record.towers]
    shown = [record for group in groups.values() for record in group]
    if exact:
        shown = [r for group in groups.values() for r in [r for r in group if r in exact] or group[-1:]]
    told = [settings_of(fitted[group[0]]) for group in groups.values()]
    differences = [
        f"{what} {' or '.join(dict.fromkeys(str(settings[what]) for settings in told))}"
        for what in told[0]
        if len({settings[what] for settings in told}) > 1 and not what.endswith(" heads")
    ]
    names = " or ".join(record.name for record in shown)
    return JaxalignError(
        f"{os.path.basename(name)} may be {names}, which differ in what they compute:"
        f" {', '.join(differences)}; say whose settings it has: jaxalign.load(..., spec=NAME), or --spec NAME"
        " on the command line"
    )


def settings_of(spec: ModelSpec) -> dict[str, Any]:
    """What a model computes, by words; sizes are the same for all that are compared."""
    towers = {"image": spec.towers.image, "text": spec.towers.text}
    named = {
        f"{which} {f.name.removeprefix('image_').replace('_', ' ')}": getattr(tower, f.name)
        for which, tower in towers.items()
        if tower is not None
        for f in fields(tower)
    }
    return named | {"position resampling": spec.position_resampling}


def _check_agreement(stated: ModelSpec, facts: Facts) -> None:
    """Raises JaxalignError where the configuration says other settings than the record that was stated."""
    image, text = stated.towers.image, stated.towers.text
    pairs = [
        *(("image " + k, v, getattr(image, k)) for k, v in facts.image.items() if hasattr(image, k)),
        *(("text " + k, v, getattr(text, k)) for k, v in facts.text.items() if text is not None),
    ]
    pairs = [pair for pair in pairs if pair[0].partition(" ")[2] in _COMPUTED]
    said = ("resize", "interpolation", "mean", "std")
    pairs += [(k, v, getattr(stated, k)) for k, v in facts.spec.items() if k in said]
    wrong = [
        f"{what} is {value}, and {stated.name} has {other}" for what, value, other in pairs if value != other
    ]
    if wrong:
        raise JaxalignError(
            f"its configuration contradicts spec {stated.name!r}: {'; '.join(wrong)}; leave out spec, or load"
            " the weights without the configuration"
        )


def _leave_open(spec: ModelSpec, others: Sequence[ModelSpec], told: bool) -> ModelSpec:
    """`spec` without the tokens in which `others` that it may be as well differ, and without the
    preprocessing, unless it was told and they are of one mind about the rest of it."""
    differ = lambda names: any(getattr(o, n) != getattr(spec, n) for o in others for n in names)
    open_: dict[str, Any] = {}
    if not told or differ(_PREPROCESSING):
        open_ |= {"mean": None, "std": None}
    if differ(_TOKENS):
        open_["vocabulary"] = None
    return replace(spec, **open_)


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
