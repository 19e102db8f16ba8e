"""One record for each known checkpoint, and its form on disk as JSON."""

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.models import ImageTowerConfig, TextTowerConfig, TwoTowersConfig


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Every fact about a checkpoint.

    Attributes:
      name: what `load` is called with.
      source: where the weights come from: a repository id, or the script that trained them.
      revision: commit of the repository; None where there is none.
      licence: SPDX identifier of the weights.
      paper: the paper or report that describes the model.
      towers: sizes and options of both towers; the context length and the end token are the text tower's.
      resize: `squash` to a square, or `shortest` side and then a centre crop.
      interpolation: of the resize.
      mean, std: for each colour channel, of pixel values in [0, 1].
      tokens: `causal` is start, words, end, padding; `sticky` is words, end, padding. In both the end token
        is kept when a text is cut to the context.
      start_token: id, None for `sticky`.
      pad_token: id.
      band, text_band: IsoCLIP's (k_top, k_bottom) for image and for text retrieval (table S10); None where it
        has none.
      inversion_patches: how many pseudo-patches `invert_to_image` optimises (table S5; 4 where it says
        nothing).
    """

    name: str
    source: str
    revision: str | None
    licence: str
    paper: str
    towers: TwoTowersConfig
    resize: Literal["squash", "shortest"]
    interpolation: Literal["bicubic", "bilinear"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tokens: Literal["causal", "sticky"]
    start_token: int | None
    pad_token: int
    band: tuple[int, int] | None = None
    text_band: tuple[int, int] | None = None
    inversion_patches: int = 4

    def __post_init__(self):
        text = self.towers.text
        if (self.tokens == "causal") != (self.start_token is not None):
            raise JaxalignError(
                f"{self.name}: tokens {self.tokens!r} with start_token {self.start_token};"
                " expected a start token for 'causal' and None for 'sticky'"
            )
        for which in ("start_token", "pad_token"):
            token = getattr(self, which)
            if token is not None and not 0 <= token < text.vocabulary:
                raise JaxalignError(
                    f"{self.name}: {which} is {token}; expected an id below {text.vocabulary}"
                )
        if not 1 <= self.inversion_patches <= self.towers.image.num_patches:
            raise JaxalignError(
                f"{self.name}: inversion_patches is {self.inversion_patches}; expected 1 to"
                f" {self.towers.image.num_patches}, the patches of a picture"
            )
        if min(self.std) <= 0:
            raise JaxalignError(f"{self.name}: std is {self.std}; expected values above 0")

    @property
    def context(self) -> int:
        return self.towers.text.context


_EMOJI_VOCABULARY = 3685

_EMOJI_CLIP = ModelSpec(
    name="emoji-clip",
    source="embedded in the package; trained by tools/train_embedded.py",
    revision=None,
    licence="Apache-2.0",
    paper="CLIP, arXiv:2103.00020 (the shape; sizes and data are ours)",
    towers=TwoTowersConfig(
        ImageTowerConfig(
            image_size=48,
            patch_size=8,
            width=256,
            depth=3,
            heads=4,
            mlp_hidden=768,
            activation="quick_gelu",
            norm_epsilon=1e-5,
            pooling="cls",
            projection=128,
            patch_bias=False,
        ),
        TextTowerConfig(
            vocabulary=_EMOJI_VOCABULARY,
            context=20,
            width=128,
            depth=2,
            heads=2,
            mlp_hidden=384,
            activation="quick_gelu",
            norm_epsilon=1e-5,
            causal=True,
            projection=128,
            projection_bias=False,
            end_token=3,
        ),
        logit_bias=False,
    ),
    resize="squash",
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    tokens="causal",
    start_token=2,
    pad_token=0,
)

_EMOJI_SIGLIP = dataclasses.replace(
    _EMOJI_CLIP,
    name="emoji-siglip",
    paper="SigLIP 2, arXiv:2502.14786 (the shape; sizes and data are ours)",
    towers=TwoTowersConfig(
        dataclasses.replace(
            _EMOJI_CLIP.towers.image,
            depth=2,
            activation="gelu_tanh",
            norm_epsilon=1e-6,
            pooling="map",
            projection=None,
            patch_bias=True,
        ),
        dataclasses.replace(
            _EMOJI_CLIP.towers.text,
            activation="gelu_tanh",
            norm_epsilon=1e-6,
            causal=False,
            projection=256,
            projection_bias=True,
        ),
        logit_bias=True,
    ),
    tokens="sticky",
    start_token=None,
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in (_EMOJI_CLIP, _EMOJI_SIGLIP)}


def find_spec(name: str) -> ModelSpec:
    """The record of `name`; raises JaxalignError with the nearest names for one that is in no table."""
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """Plain dictionaries, lists, strings and numbers."""
    return dataclasses.asdict(spec)


def spec_from_json(values: Any) -> ModelSpec:
    """The inverse of `spec_to_json`, also of what JSON made of its result.

    Raises:
      JaxalignError: all missing, unknown and mistyped keys, or sizes that do not fit.
    """
    problems: list[str] = []
    spec = _build(ModelSpec, values, "", problems)
    if problems:
        raise JaxalignError("; ".join(problems))
    return spec


def _build(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    """`value` as an instance of the annotation `kind`; what does not fit is added to `problems`."""
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where, problems)
    if get_origin(kind) in (UnionType, Union):  # X | None, nothing else
        inner = next(k for k in get_args(kind) if k is not NoneType)
        return None if value is None else _build(inner, value, where, problems)
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if isinstance(value, list | tuple) and len(value) == len(items):
            return tuple(_build(k, v, where, problems) for k, v in zip(items, value, strict=True))
        problems.append(f"{where} is {value!r}; expected a list of {len(items)}")
        return value
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            problems.append(f"{where} is {value!r}; expected {' or '.join(map(repr, get_args(kind)))}")
        return value
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        problems.append(f"{where} is {value!r}; expected a {kind.__name__}")
        return value
    return kind(value)


def _build_dataclass(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{where or 'the content'} is {value!r:.60}; expected an object")
        return None
    path = lambda name: f"{where}.{name}" if where else name
    hints = get_type_hints(kind)
    before = len(problems)
    problems += [str(unknown_name("key", path(key), map(path, hints))) for key in value if key not in hints]
    arguments = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            arguments[field.name] = _build(hints[field.name], value[field.name], path(field.name), problems)
        elif field.default is dataclasses.MISSING:
            problems.append(f"{path(field.name)} is missing")
    return kind(**arguments) if len(problems) == before else None
