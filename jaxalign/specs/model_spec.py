"""The record of facts that every checkpoint has."""

import dataclasses
from typing import Any, Literal, NoReturn, get_args

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.inputs.image_processing import Pipeline
from jaxalign.inputs.text_cleaning import Cleaning
from jaxalign.models import ImageTowerConfig, TwoTowersConfig

Resampling = Literal["bicubic", "bicubic_antialias", "bicubic_offset"]

Layout = Literal["paper", "reference"]
NOT_STORED = {"stored": False}  # of a field that `spec_to_json` leaves out
_LARGEST_MEAN = 1e6  # of pixels in [0, 1]; beyond it, float32 loses the pixels


class NoBand:
    """The band of a model for which none is printed.

    It is false, equal to None and null in JSON; whoever unpacks it, as `ja.isoclip(heads, *spec.band)` does,
    is told what to do.
    """

    def __init__(self, model: str):
        self.model = model

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, NoBand)

    def __hash__(self) -> int:
        return hash(None)

    def __repr__(self) -> str:
        return "None"

    def __iter__(self) -> NoReturn:
        raise JaxalignError(
            f"no band is printed for {self.model}; choose one: ja.sweep_bands(...).best with labels,"
            " ja.select_band(ja.decompose(projectors)) without"
        )

    def __len__(self) -> NoReturn:
        self.__iter__()

    def __getitem__(self, index: Any) -> NoReturn:
        self.__iter__()


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Every fact about a checkpoint. Where two sources of the same weights differ, each has its own record.

    Attributes:
      name: what `load` is called with, or a file or folder that is no known checkpoint.
      source: where the weights come from: a repository id, an address, a path, or the script that trained
        them.
      revision: commit of `source` on the hub; None where there is none, or none is known to us until it is
        loaded.
      licence: SPDX identifier of the weights.
      paper: the paper or report that describes the model.
      towers: sizes and options of both towers; the context length and the end token are the text tower's.
      resize: `squash` to a square, or `shortest` side and then a centre crop.
      interpolation: of the resize.
      mean, std: for each colour channel, of pixel values in [0, 1]. None where nothing says how images are
        preprocessed; they have to be passed preprocessed then.
      tokens: `causal` is start, words, end, padding; `sticky` is words, end, padding. In both the end token
        is kept when a text is cut to the context. None for an image-only model, and where nothing says how
        texts become ids, until a `tokenizer.json` does.
      start_token: id, None for `sticky`.
      pad_token: id, None for an image-only model.
      band, text_band: IsoCLIP's (k_top, k_bottom) for image and for text retrieval as printed in its table
        S10, counted among the singular values of the layout's projectors; `NoBand`, which equals None, where
        it has none.
      inversion_patches: how many pseudo-patches `invert_to_image` optimises (table S5; 4 where it says
        nothing).
      resize_size: the shortest side before the crop, where it is not the tower's image size (DINO: 256).
      pipeline: whose conventions the preprocessing follows: the order of RGB, what becomes of transparency,
        rounding (`jaxalign.inputs.image_processing.ImageProcessor`).
      vocabulary: `clip-bpe` ships with the package; `tokenizer.json` and `sentencepiece` are files of the
        checkpoint. None for an image-only model, and where nothing says how texts are split.
      cleaning: what is done to a text before it is split, see `inputs.text_cleaning`; None for nothing.
      hub_ids: repositories that hold these weights, the preferred one first.
      aliases: other names that `find_spec` takes: those of the original code and of its files.
      position_resampling: how learned positions of another grid are brought to this image size, see
        `jaxalign.positions`; None where another grid is an error.
      formats: what the weights of a known model come in: names of `jaxalign.conversion.formats.FORMATS`. That
        says where a model is from and nothing of what it is: it is not compared, and not written to disk.
      layout: `reference` makes projectors, and the pre-projection feature of a Perception Encoder, as the
        published code of IsoCLIP does where it departs from the paper; needed for its printed numbers. See
        `with_layout`.
    """

    name: str
    source: str
    revision: str | None
    licence: str
    paper: str
    towers: TwoTowersConfig
    resize: Literal["squash", "shortest"]
    interpolation: Literal["bicubic", "bilinear"]
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    tokens: Literal["causal", "sticky"] | None
    start_token: int | None
    pad_token: int | None
    band: tuple[int, int] | None = None
    text_band: tuple[int, int] | None = None
    inversion_patches: int = 4
    resize_size: int | None = None
    pipeline: Pipeline = "open_clip"
    vocabulary: Literal["clip-bpe", "tokenizer.json", "sentencepiece"] | None = "tokenizer.json"
    cleaning: Cleaning | None = None
    hub_ids: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    position_resampling: Resampling | None = None
    layout: Layout = "paper"
    formats: tuple[str, ...] = dataclasses.field(default=(), compare=False, metadata=NOT_STORED)

    def __post_init__(self) -> None:
        for name in ("band", "text_band"):
            if not getattr(self, name):
                object.__setattr__(self, name, NoBand(self.name))
        if self.layout not in get_args(Layout):
            raise unknown_name("layout", self.layout, get_args(Layout))
        self._check_tokens()
        image = self.towers.image
        if isinstance(image, ImageTowerConfig) and not 1 <= self.inversion_patches <= image.num_patches:
            raise JaxalignError(
                f"{self.name}: inversion_patches is {self.inversion_patches}; expected 1 to"
                f" {image.num_patches}, the patches of an image"
            )
        if self.resize_size is not None and self.resize_size < image.image_size:
            raise JaxalignError(
                f"{self.name}: resize_size is {self.resize_size}; expected at least {image.image_size}, the"
                " side of the crop"
            )
        if (self.mean is None) != (self.std is None):
            raise JaxalignError(f"{self.name}: mean is {self.mean} and std {self.std}; expected both or none")
        largest = _LARGEST_MEAN
        if not all(abs(x) <= largest for x in self.mean or ()):  # NaN is no number's equal or less
            raise JaxalignError(
                f"{self.name}: mean is {self.mean}; expected values of {-largest:g} to {largest:g}"
            )
        if not all(1 / largest <= x <= largest for x in self.std or ()):
            raise JaxalignError(
                f"{self.name}: std is {self.std}; expected values above 0, of {1 / largest:g} to {largest:g}"
            )

    def _check_tokens(self) -> None:
        text = self.towers.text
        if text is None:
            if (self.tokens, self.start_token, self.pad_token) != (None, None, None):
                raise JaxalignError(f"{self.name} has no text tower; expected no tokens, start or pad token")
            return
        is_unknown = (self.tokens, self.start_token) == (None, None)
        is_unknown = is_unknown and self.vocabulary in ("tokenizer.json", None)
        if (self.tokens is None and not is_unknown) or self.pad_token is None:
            raise JaxalignError(f"{self.name}: tokens or pad_token is null; expected both for the text tower")
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

    def with_layout(self, layout: str) -> "ModelSpec":
        """This record for the projectors of `layout`, its bands leaving the same directions.

        Raises JaxalignError for another name.
        """
        other = dataclasses.replace(self, layout=layout)
        more = other.zero_singular_values - self.zero_singular_values
        return dataclasses.replace(
            other, band=_with_more(self.band, more), text_band=_with_more(self.text_band, more)
        )

    @property
    def zero_singular_values(self) -> int:
        """How many the published code counts that are 0 and that `decompose` leaves out.

        It gives both biased heads of a SigLIP a bias row, so that 768-wide ones have 769 singular values. Of
        a k_bottom of 50 one is then no direction: 49 are left.
        """
        image = self.towers.image
        is_siglip = (
            isinstance(image, ImageTowerConfig) and image.pooling == "map" and image.projection is None
        )
        return int(self.layout == "reference" and is_siglip)

    @property
    def context(self) -> int | None:
        """Token ids in a text; None for an image-only model."""
        return self.towers.text.context if self.towers.text else None


def _with_more(band: tuple[int, int] | None, zeros: int) -> tuple[int, int] | None:
    """The band that leaves the same directions where `zeros` more of the k_bottom are none."""
    if not band or band[1] == 0:
        return band
    return band[0], max(band[1] - zeros, 0)
