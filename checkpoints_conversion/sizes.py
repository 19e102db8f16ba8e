"""Sizes of the towers, read off the shapes of a file's tensors."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxalign.models import ImageTowerConfig, ResNetConfig, TextTowerConfig, TwoTowersConfig
from jaxalign.specs import ModelSpec
from jaxalign.weights.stored import Shape, StoredTensor

from .engine import Format, matches
from .transforms import conv, linear, patch_positions, stacked

_IMAGE_BLOCKS, _TEXT_BLOCKS = "img/Transformer/encoderblock_{i}", "txt/Encoder_0/encoderblock_{i}"
_HIDDEN = "/MlpBlock_0/Dense_0/bias"
_QUERY = "/MultiHeadDotProductAttention_0/query/kernel"


class Shapes:
    """The shapes that our parameters would have, by path, from the tensors of a file."""

    def __init__(self, format: Format, found: Mapping[str, StoredTensor]):
        self.format, self.found = format, found

    def get(self, path: str, axes: int) -> Shape | None:
        """The last `axes` of it, None where there is no such tensor or it has fewer axes."""
        for rule in self.format.rules:
            for target in rule.targets:
                pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[0-9]+)", re.escape(target))
                if match := re.fullmatch(pattern, path):
                    for name in rule.source.split("|"):
                        source = self.found.get(name.format(**match.groupdict()))
                        if source and len(source.shape) >= axes:
                            return _as_ours(source.shape, rule.transform)[-axes:]
        return None

    def depth(self, blocks: str) -> int:
        """One more than the largest number of a block of `blocks` (a path that ends in `{i}`) in the file."""
        depth = 0
        for rule in self.format.rules:
            if rule.transform is stacked and rule.targets and rule.targets[0].startswith(blocks.format(i=0)):
                depth = max(depth, len(rule.targets))
            elif rule.source and rule.targets and rule.targets[0].startswith(blocks):
                depth = max([depth, *(int(n["i"]) + 1 for n in matches(rule.source, self.found))])
        return depth


def _as_ours(shape: Shape, transform: Any) -> Shape:
    if transform is linear:
        return shape[::-1]
    if transform is conv and len(shape) == 4:
        return (shape[2], shape[3], shape[1], shape[0])
    if transform is patch_positions:
        return (*shape[:-2], shape[-2] + 1, shape[-1])
    return shape


def fit_towers(spec: ModelSpec, format: Format, found: Mapping[str, StoredTensor]) -> TwoTowersConfig:
    """`spec`'s towers in the sizes of the file; what a missing tensor would say stays as it is.

    Where positions are to be resampled, they say nothing of the image size if all else is as `spec` has it;
    a model of other sizes is taken as it was trained.
    """
    shapes = Shapes(format, found)
    if spec.position_resampling is not None:
        towers = _fit(spec, shapes, resampled=True)
        if towers == spec.towers:
            return towers
    return _fit(spec, shapes, resampled=False)


def _fit(spec: ModelSpec, shapes: Shapes, resampled: bool) -> TwoTowersConfig:
    image, text = spec.towers.image, spec.towers.text
    if isinstance(image, ResNetConfig):
        image = _fit_resnet(image, shapes)
    else:
        image = _fit_vit(image, shapes, resampled)
    if text is None:
        return TwoTowersConfig(image, None)
    old, text = text.projection, _fit_text(text, shapes)
    if image.embedding_width != text.projection:  # one of them is damaged: most likely not the usual one
        width = text.projection if text.projection == old and image.projection else image.embedding_width
        image = replace(image, projection=width) if image.projection else image
        text = replace(text, projection=width)
    return TwoTowersConfig(image, text, spec.towers.logit_bias or shapes.get("b", 0) is not None)


def _fit_vit(image: ImageTowerConfig, shapes: Shapes, resampled: bool) -> ImageTowerConfig:
    patch, _, _, width = shapes.get("img/embedding/kernel", 4) or (image.patch_size, 0, 0, image.width)
    hidden = shapes.get(_IMAGE_BLOCKS.format(i=0) + _HIDDEN, 1) or (image.mlp_hidden,)
    registers = shapes.get("img/reg", 2)
    image = _fit_end(image, shapes)
    projection = shapes.get("img/head/kernel", 2)
    positions = shapes.get("img/pos_embedding", 2)
    size = image.image_size
    if positions is not None and not resampled:
        side = math.isqrt(max(positions[0] - image.has_class_token, 1))
        if size // max(patch, 1) != side:
            size = side * patch
    return replace(
        image,
        image_size=size,
        patch_size=patch,
        width=width,
        depth=shapes.depth(_IMAGE_BLOCKS) or image.depth,
        heads=_heads(shapes, _IMAGE_BLOCKS, width, image.width // image.heads),
        mlp_hidden=hidden[0],
        registers=registers[0] if registers else 0,
        projection=projection[1] if projection else image.projection,
    )


def _fit_end(image: ImageTowerConfig, shapes: Shapes) -> ImageTowerConfig:
    """Which of big_vision's ends the tower has: with a class token in place of the pool, with a head."""
    probe, token = shapes.get("img/MAPHead_0/probe", 2), shapes.get("img/cls", 2)
    if image.pooling == "map" and not image.has_class_token and token is not None and probe is None:
        image = replace(image, pooling="cls")
    if image.projection is None and shapes.get("img/head/kernel", 2) is not None:
        image = replace(image, projection_bias=shapes.get("img/head/bias", 1) is not None)
    return image


def tell_heads(format: Format, found: Mapping[str, StoredTensor]) -> bool:
    """Whether the tensors' shapes say how many heads there are: big_vision's do."""
    return Shapes(format, found).get(_IMAGE_BLOCKS.format(i=0) + _QUERY, 3) is not None


def _heads(shapes: Shapes, blocks: str, width: int, head_width: int) -> int:
    """As the kernel of the queries has them (big_vision); elsewhere heads are as wide as in the known model.

    Where that leaves a rest it is another model: one head keeps the sizes consistent until a configuration
    says how many there are.
    """
    kernel = shapes.get(blocks.format(i=0) + _QUERY, 3)
    if kernel:
        return kernel[1]
    return 1 if width % head_width else width // head_width


def _fit_resnet(image: ResNetConfig, shapes: Shapes) -> ResNetConfig:
    stem = shapes.get("img/conv_2/kernel", 4) or (0, 0, 0, image.stem_width)
    positions = shapes.get("img/attnpool/pos_embedding", 2)
    projection = shapes.get("img/head/kernel", 2) or (0, image.projection)
    depths = [_stage_depth(shapes, stage) for stage in (1, 2, 3, 4)]
    side = math.isqrt(max(positions[0] - 1, 1)) if positions else image.image_size // 32
    head_width = image.width // image.heads
    return replace(
        image,
        image_size=32 * side,
        stage_depths=tuple(n or old for n, old in zip(depths, image.stage_depths, strict=True)),
        stem_width=stem[3],
        heads=max(32 * stem[3] // head_width, 1),
        projection=projection[1],
    )


def _stage_depth(shapes: Shapes, stage: int) -> int:
    depth = 0
    while shapes.get(f"img/layer{stage}_{depth}/conv_0/kernel", 4) is not None:
        depth += 1
    return depth


def _fit_text(text: TextTowerConfig, shapes: Shapes) -> TextTowerConfig:
    vocabulary, width = shapes.get("txt/Embed_0/embedding", 2) or (text.vocabulary, text.width)
    context = shapes.get("txt/pos_embedding", 2) or (text.context,)
    hidden = shapes.get(_TEXT_BLOCKS.format(i=0) + _HIDDEN, 1) or (text.mlp_hidden,)
    projection = shapes.get("txt/head/kernel", 2) or (0, text.projection)
    end, pooling = text.end_token, text.pooling
    if vocabulary != text.vocabulary and text.pools_at == "end":
        pooling = "argmax"  # as in all originals, where it is the same with CLIP's own vocabulary
    if end is not None and end >= vocabulary:
        end = None
    return replace(
        text,
        vocabulary=vocabulary,
        context=context[0],
        width=width,
        depth=shapes.depth(_TEXT_BLOCKS) or text.depth,
        heads=_heads(shapes, _TEXT_BLOCKS, width, text.width // text.heads),
        mlp_hidden=hidden[0],
        projection=projection[1],
        end_token=end,
        pooling=pooling,
    )
