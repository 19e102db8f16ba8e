"""Parts of the towers against timm's, open_clip's and PyTorch's own, with the same random weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `reference`: pip install 'jaxalign[reference]'")
pytest.importorskip("timm", reason="needs the extra `reference`: pip install 'jaxalign[reference]'")
pytest.importorskip("open_clip", reason="needs the extra `reference`: pip install 'jaxalign[reference]'")
pytest.importorskip("transformers", reason="needs the extra `reference`: pip install 'jaxalign[reference]'")

import torch
from open_clip.modified_resnet import AttentionPool2d, Bottleneck
from references import REFERENCES, original_files
from references.base import randomise
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.norm import LayerNorm
from timm.models.eva import EvaBlock, checkpoint_filter_fn
from torch.nn.functional import interpolate

from jaxalign.models import resnet
from jaxalign.models.image_tower import ImageTowerConfig, MAPHead
from jaxalign.models.rope import rotation_table
from jaxalign.models.transformer import BlockConfig, EncoderBlock
from jaxalign.positions import resample_positions

pytestmark = pytest.mark.reference
RNG = np.random.default_rng(0)


def close(ours, theirs):
    """Largest difference relative to the largest value: 1e-5."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def ready(module, seed=0):
    module.eval().requires_grad_(False)
    randomise(module, seed)
    return module


def draw(*shape):
    x = RNG.normal(size=shape).astype(np.float32)
    return jnp.asarray(x), torch.from_numpy(x)


def array(tensor):
    return jnp.asarray(tensor.numpy())


def dense(linear):
    return {"kernel": array(linear.weight).T, "bias": array(linear.bias)}


def norm(module):
    return {"scale": array(module.weight), "bias": array(module.bias)}


def heads(weight, bias, count):
    """[D, D] and [D] (or None) to big_vision's [D, H, h] and [H, h]."""
    width = weight.shape[0]
    bias = torch.zeros(width) if bias is None else bias
    return {"kernel": array(weight).T.reshape(width, count, -1), "bias": array(bias).reshape(count, -1)}


def output(linear, count):
    width = linear.out_features
    return {"kernel": array(linear.weight).T.reshape(count, -1, width), "bias": array(linear.bias)}


def apply(module, params, *inputs, **options):
    return jax.jit(lambda p, *x: module.bind({"params": p})(*x, **options))(params, *inputs)


@pytest.mark.parametrize("side", [3, 14])
@pytest.mark.parametrize(
    ("reference", "kind", "pretraining"),
    [("eva02-open_clip", "eva02", 16), ("pe-open_clip", "pe", 3), ("dinov3-timm", "dinov3", None)],
)
def test_rotation_tables_are_timms_buffers(reference, kind, pretraining, side):
    model = REFERENCES[reference].make("tiny")
    rope = model.visual.trunk.rope if hasattr(model, "visual") else model.rope
    if kind == "dinov3":
        theirs = rope.get_embed([side, side])
    else:
        rope.update_feat_shape([side, side])
        theirs = rope.get_embed()
    sin, cos = rotation_table(kind, side, 64, reference=pretraining)
    np.testing.assert_allclose(np.concatenate([sin, cos], 1), theirs.numpy(), atol=3e-6)  # angles up to 16


@pytest.mark.parametrize("kind", ["eva02", "dinov3"])
def test_block_with_rotary_positions_is_timms(kind):
    """EVA-02: SwiGLU and LayerNorms inside both branches; DINOv3: LayerScale and halves that rotate."""
    eva, side, width, count = kind == "eva02", 5, 48, 3
    options = {"swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True, "mlp_ratio": 8 / 3}
    options = {**options, "qkv_fused": False} if eva else {"init_values": 1.0, "rotate_half": True}
    block = ready(
        EvaBlock(width, count, num_prefix_tokens=2, norm_layer=partial(LayerNorm, eps=1e-6), **options)
    )
    tables = rotation_table(kind, side, width // count, reference=16 if eva else None, prefix=2)
    x, y = draw(2, side * side + 2, width)
    rope = torch.from_numpy(np.concatenate(tables, 1)[2:])
    theirs = block(y, rope=rope)

    attention, mlp = block.attn, block.mlp
    if eva:
        three = [(p.weight, p.bias) for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
        inner = {"gate": dense(mlp.fc1_g), "Dense_0": dense(mlp.fc1_x), "LayerNorm_0": norm(mlp.norm)}
        extra = {"norm": norm(attention.norm)}
    else:
        biases = (attention.q_bias, None, attention.v_bias)
        three = list(zip(attention.qkv.weight.chunk(3), biases, strict=True))
        inner, extra = {"Dense_0": dense(mlp.fc1)}, {}
    names = ("query", "key", "value")
    params = {
        "LayerNorm_0": norm(block.norm1),
        "MultiHeadDotProductAttention_0": {
            **{name: heads(*pair, count) for name, pair in zip(names, three, strict=True)},
            **extra,
            "out": output(attention.proj, count),
        },
        "LayerNorm_1": norm(block.norm2),
        "MlpBlock_0": {**inner, "Dense_1": dense(mlp.fc2)},
    }
    if not eva:
        params |= {
            f"LayerScale_{i}": {"gamma": array(g)} for i, g in enumerate((block.gamma_1, block.gamma_2))
        }
    config = BlockConfig(
        count,
        mlp.fc2.in_features,
        "silu" if eva else "gelu",
        1e-6,
        gated_mlp=eva,
        sub_norm=eva,
        layer_scale=not eva,
        rope=kind,
    )
    close(apply(EncoderBlock(config), params, x, rotation=tables)[0], theirs)


def test_attention_pool_is_timms():
    """Both the vector before the residual MLP and the one after it, with heads of its own number."""
    pool = ready(AttentionPoolLatent(32, num_heads=8, norm_layer=partial(LayerNorm, eps=1e-5)))
    x, y = draw(2, 9, 32)
    config = ImageTowerConfig(12, 4, 32, 1, 2, 128, "gelu", 1e-5, "map", None, pool_heads=8)
    key, value = zip(pool.kv.weight.chunk(2), pool.kv.bias.chunk(2), strict=True)
    params = {
        "probe": array(pool.latent),
        "MultiHeadDotProductAttention_0": {
            "query": heads(pool.q.weight, pool.q.bias, 8),
            "key": heads(*key, 8),
            "value": heads(*value, 8),
            "out": output(pool.proj, 8),
        },
        "LayerNorm_0": norm(pool.norm),
        "MlpBlock_0": {"Dense_0": dense(pool.mlp.fc1), "Dense_1": dense(pool.mlp.fc2)},
    }
    before, after = apply(MAPHead(config), params, x)
    close(after, pool(y))
    pool.mlp = None
    close(before, pool(y))


@pytest.mark.parametrize(("wide", "stride"), [(16, 1), (8, 1), (16, 2)])
def test_bottleneck_is_open_clips(wide, stride):
    block = ready(Bottleneck(wide, 4, stride))
    x, y = draw(2, 6, 6, wide)
    conv = lambda module: {"kernel": array(module.weight).transpose(2, 3, 1, 0)}
    statistics = lambda module: {
        **norm(module),
        "mean": array(module.running_mean),
        "var": array(module.running_var),
    }
    params = {f"conv_{i}": conv(getattr(block, f"conv{i + 1}")) for i in range(3)}
    params |= {f"bn_{i}": statistics(getattr(block, f"bn{i + 1}")) for i in range(3)}
    if block.downsample is not None:
        _, skip, skip_norm = block.downsample
        params |= {"downsample_conv": conv(skip), "downsample_bn": statistics(skip_norm)}
    theirs = block(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    close(apply(resnet.Bottleneck(4, stride, 1e-5), params, x), theirs)


def test_resnet_pool_is_open_clips():
    pool = ready(AttentionPool2d(3, 16, 4, 12))
    x, y = draw(2, 3, 3, 16)
    params = {name: dense(getattr(pool, f"{name[0]}_proj")) for name in ("query", "key", "value")}
    params["pos_embedding"] = array(pool.positional_embedding)
    pre = apply(resnet.AttentionPool(4), params, x)
    head = dense(pool.c_proj)
    close(pre @ head["kernel"] + head["bias"], pool(y.permute(0, 3, 1, 2)))


@pytest.mark.parametrize(("grid", "side"), [(37, 16), (16, 37), (7, 5)])
@pytest.mark.parametrize("method", ["bicubic", "bicubic_antialias", "bicubic_offset"])
def test_positions_are_resampled_as_by_pytorch(method, grid, side):
    x, y = draw(1, 1 + grid * grid, 6)
    image = y[:, 1:].reshape(1, grid, grid, 6).permute(0, 3, 1, 2)
    if method == "bicubic_offset":
        theirs = interpolate(image, scale_factor=((side + 0.1) / grid,) * 2, mode="bicubic")
    else:
        theirs = interpolate(image, (side, side), mode="bicubic", antialias=method.endswith("antialias"))
    ours = resample_positions(np.asarray(x), side, method)
    np.testing.assert_array_equal(ours[:, 0], x[:, 0])
    theirs = theirs.permute(0, 2, 3, 1).reshape(1, side * side, 6).numpy()
    # PyTorch computes source coordinates up to 37 in float32
    np.testing.assert_allclose(ours[:, 1:], theirs, atol=3e-5)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("pe-original", original_files.write_pe),
        ("eva02-original", original_files.write_eva),
        ("dinov3-original", original_files.write_dinov3),
    ],
)
def test_files_in_original_names_are_accepted_by_timms_own_reader(name, write, tmp_path):
    model = REFERENCES[name].build()
    trunk = model.visual.trunk if hasattr(model, "visual") else model
    tensors = torch.load(write(model, tmp_path), weights_only=True)
    if name == "eva02-original":  # timm has a reader for EVA-02 without sub-LN's own names; rename those
        table = {"inner_attn_ln": "norm", r"mlp\.ffn_ln": "mlp.norm"}
        tensors = original_files.renamed(tensors, table)
        table = {r"mlp\.w1": "mlp.fc1_g", r"mlp\.w2": "mlp.fc1_x", r"mlp\.w3": "mlp.fc2"}
        tensors = original_files.renamed(tensors, {**table, r"attn\.(q|v)_bias": r"attn.\1_proj.bias"})
    read = checkpoint_filter_fn(tensors, trunk)
    expected = trunk.state_dict()
    assert expected.keys() <= read.keys()
    for key, tensor in expected.items():
        np.testing.assert_array_equal(read[key].reshape(tensor.shape), tensor)
