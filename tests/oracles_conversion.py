"""Checkpoints of every format out of parameters of ours, the slow way round and without PyTorch."""

import io
import itertools
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxalign.models import ResNetConfig, TwoTowersConfig
from jaxalign.specs import ModelSpec, find_spec
from jaxalign.weights.tensors import expected_shapes

_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}
# transformers' configuration of `tiny("clip-vit-base-patch16")`
TINY_CLIP_CONFIG = {
    "model_type": "clip",
    "projection_dim": 12,
    "text_config": {
        "hidden_size": 64,
        "intermediate_size": 28,
        "num_hidden_layers": 3,
        "num_attention_heads": 1,
        "max_position_embeddings": 10,
        "vocab_size": 50,
        "eos_token_id": 2,
    },
    "vision_config": {
        "hidden_size": 128,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 48,
        "patch_size": 16,
    },
}


def tiny(spec: ModelSpec | str, **image_options) -> ModelSpec:
    """A known model's facts with small sizes, all different where they may be."""
    spec = find_spec(spec) if isinstance(spec, str) else spec
    image, text = spec.towers.image, spec.towers.text
    if isinstance(image, ResNetConfig):
        image = replace(image, image_size=64, stage_depths=(1, 2, 1, 1), stem_width=4, heads=2, projection=12)
    else:
        pool_heads = image.pool_heads and 4
        image = replace(
            image,
            image_size=3 * image.patch_size,
            width=128,
            depth=2,
            heads=2,
            mlp_hidden=40,
            pool_heads=pool_heads,
            projection=image.projection and 12,
        )
        image = replace(image, **image_options)
    if text is not None:
        text = replace(
            text,
            vocabulary=50,
            context=10,
            width=64,
            depth=3,
            heads=1,
            mlp_hidden=28,
            projection=image.embedding_width,
            end_token=1 if text.end_token == 1 else 49,
        )
    start = None if spec.start_token is None else 48
    return replace(
        spec,
        name=f"tiny-{spec.name}",
        towers=TwoTowersConfig(image, text, spec.towers.logit_bias),
        start_token=start,
        inversion_patches=1,
        resize_size=None,
        position_resampling=None,
        vocabulary=spec.vocabulary and "tokenizer.json",
    )


def random_parameters(towers: TwoTowersConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Every parameter drawn at random, by path; key biases that no file holds are zero."""
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=s).astype(np.float32) for k, s in expected_shapes(towers).items()}


def source_tensors(table, params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a file of the format of `table` holds of `params`; of several names for one tensor, the first.

    `params` changes where the format has no place for a parameter: zeros.
    """
    out = {}
    for rule in table.rules:
        if rule.added or not rule.targets:
            continue
        for numbers in itertools.product(range(-1, 5), repeat=2):
            names = dict(zip(_variables(rule.targets[0]), map(str, numbers), strict=False))
            targets = [target.format(**names) for target in rule.targets]
            if targets[0] not in params:
                continue
            if rule.transform.name == "zeros":
                params[targets[0]][...] = 0
            else:
                source = rule.source.split("|")[0].format(**names)
                out[source] = _inverse(rule.transform.name, [params[target] for target in targets])
    return out


def _variables(pattern: str) -> list[str]:
    return [part.split("}")[0] for part in pattern.split("{")[1:]]


def _inverse(name: str, ours: list[np.ndarray]) -> np.ndarray:
    x = ours[0]
    if name == "value":
        return np.squeeze(x) if x.ndim and x.shape[0] == 1 and x.size > 1 else x
    if name == "flat":
        return x.reshape(-1)
    if name == "rows":
        return x[0]
    if name == "scalar":
        return x[0]
    if name == "linear":
        return np.array([[x[i, o] for i in range(x.shape[0])] for o in range(x.shape[1])])
    if name == "to_heads":  # [D, H, h] to (H h, D)
        return np.stack([x[:, H, h] for H in range(x.shape[1]) for h in range(x.shape[2])])
    if name == "from_heads":  # [H, h, D] to (D, H h)
        return np.stack([x[H, h] for H in range(x.shape[0]) for h in range(x.shape[1])], axis=1)
    if name == "conv":  # [h, w, I, O] to (O, I, h, w)
        return np.stack([np.stack([x[:, :, i, o] for i in range(x.shape[2])]) for o in range(x.shape[3])])
    if name == "fused_heads":
        return np.concatenate([_inverse("to_heads", [part]) for part in ours])
    if name == "fused_bias":
        return np.concatenate([part.reshape(-1) for part in ours])
    if name == "query_value_bias":
        query, value = (part.reshape(-1) for part in ours)
        return np.concatenate([query, np.full_like(query, 7.0), value])
    if name == "patch_positions":
        x[:, 0] = 0
        return x[:, 1:]
    raise KeyError(name)


def write_npz(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    np.savez(path, allow_pickle=False, **tensors)
    return path


def write_torch_zip(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """What `torch.save` writes for a state dict: opcodes of pickle, and the numbers beside them."""
    pickle = io.BytesIO()
    text = lambda s: b"X" + len(s.encode()).to_bytes(4, "little") + s.encode()
    number = lambda n: b"J" + int(n).to_bytes(4, "little", signed=True)
    numbers = lambda values: b"(" + b"".join(map(number, values)) + b"t"
    pickle.write(b"\x80\x02ccollections\nOrderedDict\n)R")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for key, (name, x) in enumerate(tensors.items()):
            x = np.array(x, order="C")  # ascontiguousarray adds an axis to a scalar
            storage = b"ctorch\n" + _STORAGES[x.dtype.name].encode() + b"\n"
            pickle.write(text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((")
            pickle.write(text("storage") + storage + text(str(key)) + text("cpu") + number(x.size) + b"tQ")
            strides = [s // x.itemsize for s in x.strides]
            pickle.write(number(0) + numbers(x.shape) + numbers(strides))
            pickle.write(b"\x89ccollections\nOrderedDict\n)RtRs")
            archive.writestr(f"archive/data/{key}", x.tobytes())
        pickle.write(b".")
        archive.writestr("archive/data.pkl", pickle.getvalue())
        archive.writestr("archive/version", "3\n")
    return path
