"""OTI against the published procedure in PyTorch: autograd through all tokens of transformers' text model."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.inversion.descent import Descent, descend
from jaxalign.inversion.text_path import TextPath
from jaxalign.models import TextTowerConfig

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch", reason="the reference is PyTorch's; pip install 'jaxalign[reference]'")
transformers = pytest.importorskip("transformers", reason="pip install 'jaxalign[reference]'")

STEPS = 30
PROMPT = [0, 320, 1125, 539, 1950, 1]  # start, "a photo of", the placeholder, end; short ids at tiny size
VIT_B32 = TextTowerConfig(
    vocabulary=2000,  # of 49408: the others are never looked up
    context=77,
    width=512,
    depth=12,
    heads=8,
    mlp_hidden=2048,
    activation="quick_gelu",
    norm_epsilon=1e-5,
    causal=True,
    projection=512,
    projection_bias=False,
    end_token=1,
)
TINY = replace(VIT_B32, width=32, depth=2, heads=4, mlp_hidden=48, projection=24)


@pytest.mark.parametrize("config", [TINY, pytest.param(VIT_B32, marks=pytest.mark.slow)], ids=["tiny", "b32"])
def test_losses_and_embeddings_of_the_published_procedure(config):
    model = text_model(config)
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(4, config.projection)).astype(np.float32)
    tokens = (0.02 * rng.normal(size=(4, 1, config.width))).astype(np.float32)
    losses, embeddings = published(model, targets, tokens, STEPS)

    path = TextPath(config, jnp.dtype("float32"), tuple(PROMPT[:4]), 1, (1,))
    prepared = path.prepare(jax.tree.map(jnp.asarray, converted(model, config)))
    got = descend(
        path, Descent(STEPS, 0.02, 0.01, (), None), prepared, jnp.asarray(targets), jnp.asarray(tokens)
    )
    np.testing.assert_allclose(got.losses, losses, atol=1e-4)  # what the procedure is promised to agree to
    z = np.asarray(got.embeddings)
    cosine = (z * embeddings).sum(1) / np.linalg.norm(z, axis=1) / np.linalg.norm(embeddings, axis=1)
    assert cosine.min() > 0.9999
    assert (losses[:, -1] < losses[:, 0] - 0.05).all()


def text_model(config):
    """transformers' text model with random weights, biases and norms too."""
    torch.manual_seed(0)
    hf = transformers.CLIPTextConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.mlp_hidden,
        projection_dim=config.projection,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        max_position_embeddings=config.context,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = transformers.CLIPTextModelWithProjection(hf).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.copy_(("norm" in name and "weight" in name) + 0.1 * torch.randn_like(weight))
    return model


def published(model, targets, tokens, steps):
    """Losses [n, steps] and final embeddings [n, d], one example at a time: the code's batch mean is another
    optimisation (Adam's epsilon)."""
    text, results = model.text_model, []
    ids = torch.tensor([PROMPT + [1] * (77 - len(PROMPT))])
    mask = torch.full((77, 77), float("-inf")).triu(1)[None, None]

    def embed(v):
        x = text.embeddings.token_embedding(ids)
        x = torch.cat([x[:, :4], v, x[:, 5:]], 1) + text.embeddings.position_embedding.weight
        for layer in text.encoder.layers:
            x = layer(x, attention_mask=mask)
            x = x[0] if isinstance(x, tuple) else x
        return model.text_projection(text.final_layer_norm(x)[:, 5])

    for target, token in zip(torch.tensor(targets), torch.tensor(tokens), strict=True):
        v = token[None].clone().requires_grad_(True)
        optimizer, losses = torch.optim.AdamW([v], lr=0.02, weight_decay=0.01), []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = 1 - torch.nn.functional.cosine_similarity(embed(v), target[None]).sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        results.append((losses, embed(v)[0].detach().numpy()))
    return tuple(np.array(x) for x in zip(*results, strict=True))


def converted(model, config):
    """The same weights under jaxalign's names."""
    w = {name: x.numpy() for name, x in model.state_dict().items()}
    split = lambda x: x.reshape(*x.shape[:-1], config.heads, -1)

    def dense(name):
        return {"kernel": w[f"{name}.weight"].T, "bias": w[f"{name}.bias"]}

    def norm(name):
        return {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}

    encoder = {"encoder_norm": norm("text_model.final_layer_norm")}
    for i in range(config.depth):
        layer = f"text_model.encoder.layers.{i}"
        attention = {
            name: {k: split(x) for k, x in dense(f"{layer}.self_attn.{name[0]}_proj").items()}
            for name in ("query", "key", "value")
        }
        out = dense(f"{layer}.self_attn.out_proj")
        attention["out"] = out | {"kernel": out["kernel"].reshape(config.heads, -1, config.width)}
        encoder[f"encoderblock_{i}"] = {
            "LayerNorm_0": norm(f"{layer}.layer_norm1"),
            "LayerNorm_1": norm(f"{layer}.layer_norm2"),
            "MultiHeadDotProductAttention_0": attention,
            "MlpBlock_0": {"Dense_0": dense(f"{layer}.mlp.fc1"), "Dense_1": dense(f"{layer}.mlp.fc2")},
        }
    embeddings = "text_model.embeddings"
    return {
        "Embed_0": {"embedding": w[f"{embeddings}.token_embedding.weight"]},
        "pos_embedding": w[f"{embeddings}.position_embedding.weight"][None],
        "Encoder_0": encoder,
        "head": {"kernel": w["text_projection.weight"].T},
    }
