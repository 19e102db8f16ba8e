"""What stands for the model where features are given: no towers, only heads and texts that came along, out of
files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.data_reading import FEATURES
from jaxalign.models import ImageTowerConfig, TwoTowersConfig
from jaxalign.models.text_tower import TextTowerConfig
from jaxalign.projectors import Projector, Projectors
from jaxalign.specs import ModelSpec

Stage = Literal["embedding", "pre"]
STAGES: dict[str, str] = {"embedding": "given embeddings", "pre": "given pre-projection features"}
# What a method cannot do without, or reads of what it is given.
Need = Literal["pre", "projectors", "spectrum", "embedding", "class_texts", "gallery", "towers"]
# Sizes of what is not there: the features' widths alone are looked at.
_NO_TOWER: dict[str, Any] = {
    "depth": 1,
    "heads": 1,
    "mlp_hidden": 1,
    "activation": "gelu",
    "norm_epsilon": 1e-6,
}
# Names of two kernels `[d_in, d]` and where their biases would be; then those that PyTorch has transposed.
_PAIRS = (
    ("image", "text", "{}_bias"),
    ("image_kernel", "text_kernel", "{}_bias"),
    ("image.kernel", "text.kernel", "{}.bias"),
    ("image/kernel", "text/kernel", "{}/bias"),
    ("img/head/kernel", "txt/head/kernel", "{}/bias"),
    ("params/img/head/kernel", "params/txt/head/kernel", "{}/bias"),
    ("visual.proj", "text_projection", "{}.bias"),
)
_TRANSPOSED = (("visual_projection.weight", "text_projection.weight", "{}.bias"),)


@dataclass(frozen=True, eq=False)
class GivenTexts:
    """Embeddings of texts out of a file.

    Attributes:
      values: float32 `[n, d]`.
      digest: their number, and what stands for the file's content.
    """

    values: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.values)

    def of_classes(self, count: int) -> np.ndarray:
        """The same, if there is one for each of `count` classes."""
        if len(self) != count:
            raise JaxalignError(
                f"the class texts have {len(self):,} rows, and there are {count:,} classes; expected one for"
                " each, in the order of the labels (--label-names names those that no example has)"
            )
        return self.values


@dataclass(frozen=True)
class GivenFeatures(DualEncoder):
    """A model of which there are features alone.

    Attributes:
      stage: what the features are: embeddings, or what comes before the projectors.
      heads: projectors of pre-projection features, where they came along.
      class_texts: embeddings of texts, where they came along.
      encoder: the model that the features are of, where that is here: its heads and text tower then serve.
    """

    stage: Stage = "embedding"
    heads: Projectors | None = None
    class_texts: GivenTexts | None = field(default=None, repr=False)
    encoder: DualEncoder | None = field(default=None, repr=False)

    def lacking(self, need: Need) -> str:
        """What is to be given for `need`; empty where it is there."""
        if need == "gallery":  # which there always is
            return ""
        is_pre, has_heads = self.stage == "pre", self.heads is not None or self.encoder is not None
        has_texts = self.class_texts is not None or (
            self.encoder is not None and self.config.text is not None
        )
        there, what = {
            "pre": (is_pre, "pre-projection features: --stage pre"),
            "projectors": (
                is_pre and has_heads,
                "pre-projection features and projectors: --stage pre --projectors FILE",
            ),
            "embedding": (
                not is_pre or has_heads,
                "embeddings, so projectors beside pre-projection features: --projectors FILE",
            ),
            "class_texts": (
                has_texts,
                "class texts: --class-texts features:FILE, or --model of the text tower that embeds them",
            ),
            "towers": (False, "the images themselves, and the model's towers: --dataset of images"),
        }["projectors" if need == "spectrum" else need]
        return "" if there else what

    def require(self, what: str, needs: Sequence[Need]) -> None:
        """Raise JaxalignError where something that `what` needs was not given."""
        if lacking := next(filter(None, map(self.lacking, needs)), ""):
            raise JaxalignError(f"{what} needs {lacking}")

    @property
    def projectors(self) -> Projectors:
        """Raises JaxalignError without projectors, or features that they could be about."""
        self.require("what works on the heads (isoclip, sweep, spectrum)", ("projectors",))
        if self.heads is None and self.encoder is not None:
            return self.encoder.projectors
        assert self.heads is not None
        return self.heads

    @property
    def image_projector(self) -> Projector:
        return self.projectors.image

    def require_text(self) -> TextTowerConfig:
        self.require("this", ("embedding", "class_texts"))
        assert self.config.text is not None
        return self.config.text

    def text_encoder(self) -> DualEncoder:
        """The model that embeds texts; raises JaxalignError where there is none."""
        if self.encoder is None:
            raise JaxalignError(f"{self.name}: texts need a text tower to embed them; give --model")
        return self.encoder


def given_features(
    width: int,
    stage: Stage,
    *,
    heads: Projectors | None = None,
    class_texts: GivenTexts | None = None,
    encoder: DualEncoder | None = None,
    modality: str = "image",
) -> GivenFeatures:
    """What stands for the model of features `width` wide, of images or of texts; raises JaxalignError for
    projectors, class texts or an encoder of other widths."""
    embedded = _embedded_width(width, stage, heads, encoder, modality)
    if class_texts is not None and class_texts.values.shape[1] != embedded:
        raise JaxalignError(
            f"the class texts are {class_texts.values.shape[1]} wide, embeddings {embedded}; expected"
            " those of one model, [texts, d]"
        )
    text = None if encoder is None else encoder.config.text
    if class_texts is not None:
        sizes: dict[str, Any] = {"vocabulary": 1, "context": 1, "width": embedded, "projection": embedded}
        text = TextTowerConfig(causal=False, projection_bias=False, end_token=None, **sizes, **_NO_TOWER)
    image = ImageTowerConfig(
        image_size=1, patch_size=1, width=width, pooling="avg", projection=embedded, **_NO_TOWER
    )
    name = STAGES[stage] if encoder is None else f"{STAGES[stage]} of {encoder.name}"
    spec = ModelSpec(
        name=name,
        source=name,
        revision=None,
        licence="",
        paper="",
        towers=TwoTowersConfig(image, text),
        resize="squash",
        interpolation="bicubic",
        mean=None,
        std=None,
        tokens=None,
        start_token=None,
        pad_token=None if text is None else 0,
        inversion_patches=1,
        vocabulary="tokenizer.json" if text is not None else None,
        band=None if encoder is None else encoder.spec.band,
        text_band=None if encoder is None else encoder.spec.text_band,
    )
    params = {} if heads is None else {"img": _as_params(heads.image), "txt": _as_params(heads.text)}
    return GivenFeatures(spec, params, stage=stage, heads=heads, class_texts=class_texts, encoder=encoder)


def _embedded_width(
    width: int, stage: Stage, heads: Projectors | None, encoder: DualEncoder | None, modality: str
) -> int:
    """Of embeddings, which heads make of pre-projection features; those of features that nothing projects."""
    if heads is not None and stage == "embedding":
        raise JaxalignError(
            "projectors are about pre-projection features; say that the features are some (--stage pre)"
        )
    if heads is not None:
        taken, embedded = getattr(heads, modality).kernel.shape
        whose = f"the {modality} projector takes {taken}"
    elif encoder is not None:
        tower = encoder.config.image if modality == "image" else encoder.require_text()
        embedded = encoder.config.image.embedding_width
        taken = tower.width if stage == "pre" else embedded
        whose = f"{encoder.name} has {taken} there (--stage {stage})"
    else:
        return width
    if taken != width:
        raise JaxalignError(
            f"the features are {width} wide, and {whose}; expected those of one model, kernels [d_in, d]"
        )
    return embedded


def _as_params(head: Projector) -> dict[str, dict[str, jax.Array]]:
    found = {"kernel": head.kernel} if head.bias is None else {"kernel": head.kernel, "bias": head.bias}
    return {"head": found}


def read_class_texts(name: str, key: str = "") -> GivenTexts:
    """The rows of `features:PATH`, or those under a key of it; raises JaxalignError for another name, or
    files that `read_features` refuses."""
    from jaxalign.eval.feature_files import digest, read_features  # here: most models are given nothing
    from jaxalign.eval.feature_files.layouts import find_splits

    if not name.startswith(FEATURES):
        raise JaxalignError(f"class texts are {name!r:.200}; expected features:FILE")
    splits = find_splits(name.removeprefix(FEATURES))
    if len(splits) != 1:
        raise JaxalignError(f"{name} has several splits; expected one file of class texts")
    parts = next(iter(splits.values()))
    values = read_features(parts, key, ()).astype(np.float32)
    content = digest([part.features for part in parts], {"key": key})
    return GivenTexts(values, f"{len(values)} {content}")


def read_projectors(path: Path) -> Projectors | None:
    """The two kernels that the file `path` is made of; None for one that holds more, a checkpoint.

    Kernels are `[d_in, d]`, called `image` and `text` or as OpenAI and Flax call them, with biases; those
    that transformers calls `visual_projection.weight` and `text_projection.weight` are `[d, d_in]`. Raises
    JaxalignError for kernels that are not two matrices of numbers that end in one width.
    """
    from jaxalign.eval.feature_files.tables import READERS, read_table  # here, too

    if path.is_dir() or path.suffix.lower() not in READERS:
        return None
    table = read_table(path)
    for image, text, bias in (*_PAIRS, *_TRANSPOSED):
        stems = {
            name: name.removesuffix(".weight").removesuffix("kernel").rstrip("._/") for name in (image, text)
        }
        biases = {name: bias.format(stem) for name, stem in stems.items()}
        if {image, text} <= set(table.entries) <= {image, text, *biases.values()}:
            transposed = (image, text, bias) in _TRANSPOSED
            read = lambda name: np.asarray(table.entries[name].read()) if name in table.entries else None
            heads = [_head(path, name, read(name), read(biases[name]), transposed) for name in (image, text)]
            found = Projectors(*heads)
            ja.inter_modal_operator(found)  # raises unless both end in one width
            return found
    return None


def _head(
    path: Path, name: str, kernel: np.ndarray | None, bias: np.ndarray | None, transposed: bool
) -> Projector:
    for what, array, axes in (("kernel", kernel, 2), ("bias", bias, 1)):
        if array is None:
            continue
        fits = array.ndim == axes and jnp.issubdtype(array.dtype, jnp.floating)
        if not fits or not np.isfinite(array).all():
            raise JaxalignError(
                f"{path}: the {what} of {name} is {array.dtype} of shape {array.shape}; expected finite"
                f" numbers {'[d_in, d]' if axes == 2 else '[d]'}"
            )
    assert kernel is not None
    weights = jnp.asarray(kernel.T if transposed else kernel, jnp.float32)
    return Projector(weights, None if bias is None else jnp.asarray(bias, jnp.float32))
