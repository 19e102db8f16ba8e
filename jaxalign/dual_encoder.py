"""A model in use: images and texts in, features and embeddings out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.arguments import read_dtype
from jaxalign.errors import JaxalignError
from jaxalign.features import as_numbers, is_count
from jaxalign.heads import Params, both_projectors, image_projector, no_text_tower, pre_projection_name
from jaxalign.inputs.image_processing import ImageProcessor
from jaxalign.inputs.tokenization import Tokenizer, describe_missing
from jaxalign.models import (
    ImageTowerConfig,
    ResNetConfig,
    TextTower,
    TextTowerConfig,
    TwoTowersConfig,
    image_tower,
)
from jaxalign.projectors import Projector, Projectors
from jaxalign.sharding import AXIS, check_mesh, divide_rows, fetch, shard_parameters
from jaxalign.specs import ModelSpec
from jaxalign.weights.identity import Origin, is_known

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class DualEncoder:
    """What `load` returns.

    Attributes:
      spec: every fact about the checkpoint.
      params: the parameters of `jaxalign.models.TwoTowers`: `img`, `txt`, `t` (log of the logit scale) and,
        for the sigmoid loss, `b`; for an image-only model `img` alone.
      tokenizer: None for a checkpoint without tokenizer files; `apply_text` still works.
      dtype: the towers compute in it; parameters, features and embeddings stay float32.
      origin: what `load` found; None for a model that was put together by hand.
      stacked: the towers (`img`, `txt`) whose blocks lay stacked in big_vision's file, as `scan=True` has
        them; an `.npz` of this model has them so again.
    """

    spec: ModelSpec
    params: Params = field(repr=False)
    tokenizer: Tokenizer | None = None
    dtype: Any = jnp.float32
    origin: Origin | None = field(default=None, repr=False)
    stacked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", read_dtype("dtype", self.dtype, COMPUTE_DTYPES))

    def __repr__(self) -> str:
        image, text = self.spec.towers.image, self.spec.towers.text
        texts = f", texts of up to {text.context} tokens" if text else ""
        size = f"images of {image.image_size} x {image.image_size}"
        dtype = jnp.dtype(self.dtype).name
        return f"DualEncoder({self.title}: {size}{texts}, embeddings [{image.embedding_width}], {dtype})"

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def title(self) -> str:
        """The name, with where the model is from if it is no known one: for tables and charts."""
        named = is_known(self.name) or self.name == self.spec.source
        return self.name if named else f"{self.name} ({self.spec.source})"

    def with_layout(self, layout: str) -> "DualEncoder":
        """This model with the projectors of `layout`: the "paper", or of its published code, "reference".

        They differ for SigLIP and EVA-02; for the Perception Encoder the pre-projection feature does.
        Embeddings stay the same. `spec.band` is then that of the layout: (350, 49) instead of (350, 50) for
        SigLIP 2. Raises JaxalignError for another name.
        """
        return replace(self, spec=self.spec.with_layout(layout))

    @property
    def config(self) -> TwoTowersConfig:
        """Sizes and options of both towers; `text` is None for an image-only model."""
        return self.spec.towers

    @property
    def image_processor(self) -> ImageProcessor:
        """Raises JaxalignError where nothing says how images are preprocessed."""
        s = self.spec
        size = self.config.image.image_size
        if s.mean is None or s.std is None:
            raise JaxalignError(
                f"nothing says how images are preprocessed for {self.name}; load it with spec=NAME of the"
                " known model that it was trained from, or pass preprocessed images, floats"
            )
        return ImageProcessor(size, s.resize, s.interpolation, s.mean, s.std, s.resize_size, s.pipeline)

    @property
    def projectors(self) -> Projectors:
        """The heads of both towers, float32; for an MLP image head, its linearisation.

        `spec.layout` "reference" gives those of IsoCLIP's published code where they differ. Raises
        JaxalignError for an image-only model.
        """
        return both_projectors(self.spec, self.params)

    @property
    def image_projector(self) -> Projector:
        """The image tower's head, as in `projectors`; the identity for an image-only model."""
        return image_projector(self.spec, self.params)

    def apply_image(self, params: Params, pixels: ArrayLike, projected: bool = True) -> jax.Array:
        """Embed preprocessed `pixels` float `[n, h, w, 3]` with `params`; pure, for `jit`, `grad` and
        training loops.

        Returns:
          Embeddings `[n, d]`, not normalised, or with `projected=False` pre-projection features `[n,
          d_image]`, in the model's dtype.

        Raises:
          JaxalignError: pixels of another shape or an integer dtype.
        """
        pixels = jnp.asarray(as_numbers("pixels", pixels))
        _check_pixels(pixels, self.config.image.image_size)
        both = self._image_tower(params, pixels)
        return both[0 if projected else 1]

    def apply_text(self, params: Params, tokens: ArrayLike, projected: bool = True) -> jax.Array:
        """Embed `tokens` int `[n, context]` with `params`; pure, for `jit`, `grad` and training loops.

        Returns:
          Embeddings `[n, d]`, not normalised, or with `projected=False` pre-projection features `[n,
          d_text]`, in the model's dtype.

        Raises:
          JaxalignError: tokens of another shape or a dtype that is no integer, or an image-only model.
        """
        tokens = jnp.asarray(as_numbers("tokens", tokens))
        config = self.require_text()
        context = config.context
        if tokens.ndim != 2 or tokens.shape[1] != context or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise JaxalignError(
                f"tokens have shape {tokens.shape} and dtype {tokens.dtype}; expected int32 [n, {context}]"
            )
        both = _text_tower(config, self.dtype, params["txt"], tokens)
        return both[0 if projected else 1]

    def encode_image(
        self,
        images: Sequence[Any] | ArrayLike,
        projected: bool = True,
        *,
        batch_size: int = 64,
        mesh: Mesh | None = None,
    ) -> jax.Array:
        """Preprocess and embed images.

        Args:
          images: PIL images, paths or uint8 arrays `[h, w, 3]` in a list (sizes may differ), one uint8 array
            `[n, h, w, 3]`, or one float array `[n, h, w, 3]` that is preprocessed already.
          projected: False for the pre-projection features.
          batch_size: images computed at once; the last batch is padded, so that a call compiles one shape.
          mesh: devices whose axis `data` the images are divided over; each then computes `batch_size` at
            once. Parameters lie as `shard_parameters` puts them.

        Returns:
          Embeddings `[n, d]`, not normalised, or pre-projection features `[n, d_image]`; float32.

        Raises:
          JaxalignError: no images, one that is unreadable (named) or grey with more than 8 bits, an array
            of a wrong shape, or floats that look unprocessed (`ImageProcessor.check_preprocessed`).
        """
        _check_batch_size(batch_size)
        listed = _image_list(images, self.image_processor)
        params = {"img": self.params["img"]}
        tower, batch_size = _over_mesh(self._image_tower, params, batch_size, mesh)
        batches = self._pixel_batches(listed, batch_size)
        return _encode(batches, len(listed), tower, projected, batch_size)

    def encode_text(
        self,
        texts: Sequence[str],
        projected: bool = True,
        *,
        batch_size: int = 64,
        mesh: Mesh | None = None,
    ) -> jax.Array:
        """Tokenize and embed texts; longer ones than the context are cut.

        Args:
          texts: a list of strings.
          projected: False for the pre-projection features.
          batch_size: texts computed at once; the last batch is padded, so that a call compiles one shape.
          mesh: as in `encode_image`.

        Returns:
          Embeddings `[n, d]`, not normalised, or pre-projection features `[n, d_text]`; float32.

        Raises:
          JaxalignError: no texts, something that is no string, or a model without tokenizer or text tower.
        """
        _check_batch_size(batch_size)
        config = self.require_text()
        tokens = self.require_tokenizer()(texts)
        if not len(tokens):
            raise JaxalignError("texts is empty; expected at least one string")
        tower = partial(_text_tower, config, self.dtype)
        tower, batch_size = _over_mesh(tower, self.params["txt"], batch_size, mesh)
        batches = (tokens[i : i + batch_size] for i in range(0, len(tokens), batch_size))
        return _encode(batches, len(tokens), tower, projected, batch_size)

    def require_text(self) -> TextTowerConfig:
        """Sizes and options of the text tower; raises JaxalignError for an image-only model."""
        if self.config.text is None:
            raise no_text_tower(self.name)
        return self.config.text

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer; raises JaxalignError where the checkpoint came without one, or has no text tower."""
        self.require_text()
        if self.tokenizer is None:
            raise JaxalignError(describe_missing(self.spec))
        return self.tokenizer

    def _image_tower(self, params: Params, pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
        feature = pre_projection_name(self.spec)
        return _image_tower(self.config.image, self.dtype, feature, params["img"], pixels)

    def _pixel_batches(self, images: Any, batch_size: int) -> Iterator[np.ndarray]:
        """Float32 [<= batch_size, h, w, 3], one after the other."""
        ready = isinstance(images, np.ndarray) and images.dtype != np.uint8
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size]
            if not ready:
                yield self.image_processor(chunk, start=start)
                continue
            chunk = chunk.astype(np.float32)
            bad = np.flatnonzero(~np.isfinite(chunk).all((1, 2, 3)))
            if bad.size:
                raise JaxalignError(
                    f"image {start + bad[0]} has NaN or infinite pixels; leave it out or make it again"
                )
            yield chunk


# Jitted by configuration, not by model object: a model that is loaded twice compiles once.


@partial(jax.jit, static_argnums=(0, 1, 2))
def _image_tower(
    config: ImageTowerConfig | ResNetConfig, dtype: Any, feature: str, params: Params, pixels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    z, out = image_tower(config, dtype).bind({"params": params})(pixels)
    return z, out[feature]


@partial(jax.jit, static_argnums=(0, 1))
def _text_tower(
    config: TextTowerConfig, dtype: Any, params: Params, tokens: jax.Array
) -> tuple[jax.Array, jax.Array]:
    z, out = TextTower(config, dtype).bind({"params": params})(tokens)
    return z, out["pre_logits"]


def _over_mesh(
    tower: Callable, params: Params, batch_size: int, mesh: Mesh | None
) -> tuple[Callable[[np.ndarray], tuple[jax.Array, jax.Array]], int]:
    """The tower as a function of a batch, and how much a batch of all devices is."""
    if mesh is None:
        return partial(tower, params), batch_size
    mesh = check_mesh(mesh)
    params = shard_parameters(params, mesh)
    return lambda batch: tower(params, divide_rows(batch, mesh)), batch_size * mesh.shape[AXIS]


def _encode(
    batches: Iterator[np.ndarray], count: int, tower: Callable, projected: bool, batch_size: int
) -> jax.Array:
    """Features float32 [count, D] of all batches, each padded to the shape of the first.

    JAX computes while the next batch is prepared; results are fetched one batch late so that at most two
    wait.
    """
    size = min(batch_size, 1 << (count - 1).bit_length())  # few examples: the next power of two
    done: list[np.ndarray] = []
    waiting: list[tuple[jax.Array, int]] = []

    def take() -> None:
        features, kept = waiting.pop(0)
        done.append(fetch(features).astype(np.float32)[:kept])

    for batch in batches:
        padded = np.pad(batch, ((0, size - len(batch)), *((0, 0),) * (batch.ndim - 1)))
        waiting.append((tower(padded)[0 if projected else 1], len(batch)))
        if len(waiting) > 1:
            take()
    take()
    return jnp.asarray(np.concatenate(done))


def _image_list(images: Any, processor: ImageProcessor) -> Any:
    """`images` as a NumPy array or a list; raises for anything else, an empty one, wrong shapes and floats
    that are not preprocessed.
    """
    if isinstance(images, np.ndarray | jax.Array):
        images = np.asarray(images)
        if images.dtype != np.uint8:
            _check_pixels(images, processor.size)
            if images.size:
                processor.check_preprocessed(images)
        elif images.ndim != 4 or images.shape[-1] != 3:
            raise JaxalignError(f"images has shape {images.shape}; expected uint8 [n, h, w, 3]")
    elif isinstance(images, Sequence) and not isinstance(images, str | bytes):
        images = list(images)
    else:
        raise JaxalignError(f"images is a {type(images).__name__}; expected a list, or an array [n, h, w, 3]")
    if not len(images):
        raise JaxalignError("images is empty; expected at least one image")
    return images


def _check_pixels(pixels: Any, size: int) -> None:
    if not jnp.issubdtype(pixels.dtype, jnp.floating):
        raise JaxalignError(
            f"pixels are {pixels.dtype}; expected floats as `model.image_processor` gives"
            " (encode_image takes uint8 too)"
        )
    if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
        raise JaxalignError(
            f"preprocessed images have shape {pixels.shape}; expected [n, {size}, {size}, 3]"
            " (encode_image resizes uint8 arrays and PIL images)"
        )


def _check_batch_size(batch_size: int) -> None:
    if not is_count(batch_size):
        raise JaxalignError(f"batch_size is {batch_size}; expected 1 or more")
