"""The records: complete, consistent with the originals' sizes and with the printed tables."""

import json
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.heads import both_projectors, image_projector
from jaxalign.models import ImageTowerConfig, TwoTowers
from jaxalign.specs import MODELS, find_spec, spec_from_json, spec_to_json
from jaxalign.weights.tensors import expected_shapes, flatten

# Parameters (with running statistics, without masked-token and training-only ones) of the original classes,
# counted on the meta device: open_clip 3.3.0, timm 1.0.31, transformers 5.23.0, torch 2.14.1.
ORIGINAL = {
    "clip-vit-base-patch32": 151_277_313,
    "clip-vit-base-patch16": 149_620_737,
    "clip-vit-large-patch14": 427_616_513,
    "clip-vit-large-patch14-336": 427_944_193,
    "clip-rn50": 102_060_385,
    "clip-vit-base-patch32-datacomp": 151_277_313,
    "clip-vit-base-patch16-datacomp": 149_620_737,
    "pe-core-base-patch16": 447_660_545,
    "eva02-clip-base-patch16": 149_691_137,
    "slip-vit-base-patch16": 149_619_969,
    "siglip-base-patch16-224": 203_155_970,
    "siglip-base-patch16-224-open-clip": 203_155_970,
    "siglip-base-patch16-224-big-vision": 203_155_970,
    "siglip-large-patch16-256": 652_150_786,
    "siglip-so400m-patch14-384": 877_960_498,
    "siglip2-base-patch16-224": 375_187_970,
    "siglip2-base-patch16-224-open-clip": 375_187_970,
    "siglip2-base-patch16-224-big-vision": 375_187_970,
    "siglip2-large-patch16-256": 881_526_786,
    "siglip2-so400m-patch14-384": 1_136_008_498,
    "dinov2-base": 86_579_712,
    "dinov2-base-518": 86_579_712,
    "dinov2-base-meta": 86_579_712,
    "dinov2-with-registers-base": 86_582_784,
    "dinov2-with-registers-base-518": 86_582_784,
    "dinov2-with-registers-base-meta": 86_582_784,
    "dinov3-large-patch16": 303_128_576,
    "dinov3-large-patch16-256": 303_128_576,
}
_RESAMPLED = (16 * 16 - 37 * 37) * 768  # positions at 224 pixels in place of those at 518
OURS_MINUS_ORIGINAL = {
    "pe-core-base-patch16": -1024,  # the bias of timm's head, which is zero
    "eva02-clip-base-patch16": 12 * 768,  # key biases, zero
    "dinov2-base": _RESAMPLED,
    "dinov2-base-meta": _RESAMPLED,
    "dinov2-with-registers-base": _RESAMPLED,
    "dinov2-with-registers-base-meta": _RESAMPLED,
    "dinov3-large-patch16": 24 * 1024,  # key biases, zero
    "dinov3-large-patch16-256": 24 * 1024,
}
# IsoCLIP, table S10: (k_top, k_bottom) for image and for text retrieval.
PRINTED_BANDS = {
    "ViT-B/32": ((150, 50), (20, 100)),
    "ViT-B/32-open": ((50, 50), None),
    "ViT-B/16": ((200, 50), (10, 50)),
    "ViT-L/14": ((250, 200), (10, 300)),
    "ViT-B/16-open": ((100, 100), (2, 150)),
    "EVA02-B-16": ((150, 0), None),
    "PE-Core-B-16": ((300, 50), None),
    "google/siglip2-base-patch16-224": ((350, 50), None),
}
# No public source that we found names a commit of these repositories.
UNPINNED = ("eva02-clip-base-patch16", "dinov2-with-registers-base-518")
# One of each paper's models is always traced, the others are when there is time.
FIRST = {spec.paper: name for name, spec in reversed(MODELS.items())}.values()
KNOWN = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST else pytest.mark.long) for name in MODELS]
)


@cache
def traced(towers):
    """Outputs and parameters of the towers, as shapes; records of the same towers share them."""
    side, text = towers.image.image_size, towers.text
    pixels = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    tokens = None if text is None else jax.ShapeDtypeStruct((2, text.context), jnp.int32)
    outputs, variables = jax.eval_shape(TwoTowers(towers).init_with_output, jax.random.key(0), pixels, tokens)
    return outputs, variables["params"]


@KNOWN
@pytest.mark.long
def test_parameters_are_as_many_as_the_originals(name):
    _, params = traced(MODELS[name].towers)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert expected_shapes(MODELS[name].towers) == {k: x.shape for k, x in flatten(params).items()}
    if name.startswith("emoji"):
        assert 3_000_000 < count < 4_000_000
    else:
        assert count - OURS_MINUS_ORIGINAL.get(name, 0) == ORIGINAL[name]


@KNOWN
@pytest.mark.long
def test_shapes_of_outputs_and_projectors(name):
    spec = MODELS[name]
    image, text = spec.towers.image, spec.towers.text
    (z_image, z_text, _), params = traced(spec.towers)
    assert z_image.shape == (2, image.embedding_width)
    if text is None:
        assert z_text is None
        assert jax.eval_shape(lambda p: image_projector(spec, p).kernel, params).shape == (image.width,) * 2
        return
    assert z_text.shape == (2, text.projection)
    both = jax.eval_shape(lambda p: both_projectors(spec, p), params)
    assert both.image.kernel.shape == (image.width, image.embedding_width)
    assert both.text.kernel.shape == (text.width, text.projection)
    biased = name in ("clip-rn50", "eva02-clip-base-patch16") or spec.tokens == "sticky"
    assert (both.image.bias is not None) == biased


@KNOWN
def test_records_are_found_by_every_name_and_no_two_share_one(name):
    spec = MODELS[name]
    for other in (spec.name, *spec.hub_ids, *spec.aliases):
        assert find_spec(other) is spec
        assert find_spec(other.upper()) is spec
    assert spec.source.startswith(("embedded", "https://")) or spec.source == spec.hub_ids[0]
    if name in UNPINNED or not spec.hub_ids or spec.source.startswith(("embedded", "https://")):
        assert spec.revision is None
    else:
        assert spec.revision is not None
        assert len(spec.revision) == 40
        assert int(spec.revision, 16)


@KNOWN
def test_json_round_trip(name):
    spec = MODELS[name]
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


@pytest.mark.parametrize(("name", "bands"), PRINTED_BANDS.items())
def test_bands_are_the_printed_ones(name, bands):
    spec = find_spec(name)
    assert (spec.band, spec.text_band) == bands
    assert spec.band is not None
    assert sum(spec.band) < spec.towers.image.embedding_width


def test_facts_that_published_code_got_wrong():
    act = lambda name: (MODELS[name].towers.image, MODELS[name].towers.text)
    for name, image, text in [
        ("clip-vit-base-patch16", "quick_gelu", "quick_gelu"),
        ("clip-vit-base-patch16-datacomp", "gelu", "gelu"),
        ("slip-vit-base-patch16", "gelu", "quick_gelu"),
        ("siglip-base-patch16-224", "gelu_tanh", "gelu_tanh"),
        ("siglip-base-patch16-224-open-clip", "gelu", "gelu"),
        ("siglip2-base-patch16-224-open-clip", "gelu", "gelu_tanh"),
        ("eva02-clip-base-patch16", "silu", "gelu"),
    ]:
        found = act(name)
        assert (found[0].activation, found[1].activation) == (image, text), name
    assert [
        MODELS[n].towers.image.norm_epsilon for n in ("pe-core-base-patch16", "dinov3-large-patch16")
    ] == [
        1e-5,
        1e-5,
    ]
    assert MODELS["pe-core-base-patch16"].context == 32
    assert MODELS["dinov2-base"].context is None


def test_image_only_models_say_nothing_of_text():
    for spec in MODELS.values():
        assert (spec.towers.text is None) == (spec.tokens is None) == (spec.vocabulary is None)
        if spec.position_resampling:
            assert isinstance(spec.towers.image, ImageTowerConfig)
            assert spec.towers.image.learned_positions


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(JaxalignError, match="'openai/clip-vit-base-patch16'"):
        find_spec("openai/clip-vit-base-patch61")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dinov2-base", {"pad_token": 0}, "has no text tower; expected no tokens"),
        ("dinov2-base", {"resize_size": 200}, "resize_size is 200; expected at least 224"),
        ("clip-rn50", {"tokens": None, "start_token": None}, "tokens or pad_token is null"),
        ("clip-rn50", {"start_token": None}, "expected a start token for 'causal'"),
        ("clip-rn50", {"pad_token": 49408}, "pad_token is 49408; expected an id below 49408"),
        ("clip-rn50", {"std": (0.5, 0, 0.5)}, "expected values above 0"),
        ("clip-rn50", {"layout": "papers"}, "unknown layout 'papers'; did you mean 'paper'"),
        ("clip-vit-base-patch32", {"inversion_patches": 50}, "expected 1 to 49"),
    ],
)
def test_facts_that_do_not_fit_are_named(name, change, message):
    with pytest.raises(JaxalignError, match=message):
        replace(MODELS[name], **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hub_ids": "a/b"}, "hub_ids is 'a/b'; expected a list"),
        ({"hub_ids": [3]}, "hub_ids is 3; expected a str"),
        ({"band": [1]}, r"band is \[1\]; expected a list of 2"),
        ({"towers": {"image": {"stage_depths": [1]}}}, "towers.image.stem_width is missing"),
        ({"towers": {"image": {"patch_size": 14}}}, "towers.image.width is missing"),
        ({"towers": {"image": None}}, "towers.image is None; expected an object"),
        ({"tokns": None}, "unknown key 'tokns'; did you mean 'tokens'"),
    ],
)
def test_json_that_does_not_fit_is_named(change, message):
    values = spec_to_json(MODELS["clip-rn50"]) | change
    with pytest.raises(JaxalignError, match=message):
        spec_from_json(values)
