"""What a checkpoint says of itself beside its tensors, and which known model it therefore is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTowerConfig, ResNetConfig, TwoTowersConfig
from jaxalign.specs import ModelSpec, find_spec
from jaxalign.stored import StoredTensor
from jaxalign.tokenization import Vocabulary

from .engine import Table
from .sizes import fit_towers, tell_heads

OPENAI_PAPER = "CLIP, arXiv:2103.00020"
UNKNOWN_TOKENS = {"vocabulary": "tokenizer.json", "tokens": None, "start_token": None}
# Up to here all published models of these kinds have heads 64 wide; those of wider ones are 64 to 112 wide.
_UNIFORM_WIDTH = 1024


AS_KNOWN = "as known"  # a cleaning that no file names: the known model's


@dataclass(frozen=True)
class Tokens:
    """A vocabulary and what is put around its words.

    Attributes:
      kind: the class of transformers' tokenizer; None where no file names one.
      where: the file of the vocabulary.
      start, end, pad: ids; None for none, or where nothing says which.
    """

    vocabulary: Vocabulary
    kind: str | None
    where: str
    start: int | None
    end: int | None
    pad: int | None


@dataclass(frozen=True)
class Facts:
    """Facts of a configuration file, by the names of our own fields; empty where there is no such file.

    Attributes:
      image, text: of `ImageTowerConfig` (or `ResNetConfig`) and `TextTowerConfig`.
      spec: of `ModelSpec`: preprocessing and tokens.
      tokens: what the tokenizer's files say; None where there are none, or nothing was looked for.
    """

    image: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    tokens: Tokens | None = None

    def with_tokens(self, tokens: Tokens, cleaning: str | None) -> "Facts":
        """These with `tokens`, and what is done to a text before.

        Raises:
          JaxalignError: tokens with which the tower would pool something else than the end of a text.
        """
        pooling, pooled = self.text.get("pooling"), self.text.get("end_token")
        if tokens.end is None:
            raise JaxalignError(f"{tokens.where} puts no token at the end of a text; expected one")
        if pooling == "end" and pooled != tokens.end:
            raise JaxalignError(
                f"{tokens.where}: texts end with the id {tokens.end}, but the tower pools the id {pooled}, as"
                " eos_token_id or eos_id says; expected the same"
            )
        if pooling == "argmax" and tokens.pad is not None and tokens.pad > tokens.end:
            raise JaxalignError(
                f"{tokens.where}: the tower pools the largest id, and that of the padding is {tokens.pad},"
                f" larger than {tokens.end}, which ends a text; expected a smaller one"
            )
        kind = type(tokens.vocabulary).__name__
        spec: dict[str, Any] = {
            "vocabulary": {"ClipBpe": "clip-bpe", "SentencePieces": "sentencepiece"}.get(
                kind, "tokenizer.json"
            ),
            "tokens": "sticky" if tokens.start is None else "causal",
            "start_token": tokens.start,
        }
        if cleaning != AS_KNOWN:
            spec["cleaning"] = cleaning
        if tokens.pad is not None:
            spec["pad_token"] = tokens.pad
        text = {**self.text, "end_token": tokens.end}
        return replace(self, text=text, spec={**self.spec, **spec}, tokens=tokens)

    def without_tokens(self) -> "Facts":
        """These where nothing says how texts become ids."""
        text = {"end_token": None, **self.text}
        return replace(self, text=text, spec={**self.spec, **UNKNOWN_TOKENS})


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
