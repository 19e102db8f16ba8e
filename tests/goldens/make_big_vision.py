"""Small `two_towers` models of big_vision with random weights, and what they give: `big_vision*.npz`.

    git clone https://github.com/google-research/big_vision
    python tests/goldens/make_big_vision.py big_vision

Made with commit 0127fb6b337ee2a27bf4e54dea79cff176527356. Only the models are imported: their `utils`, which
needs TensorFlow, is left out.
"""

import sys
import types
from pathlib import Path

import flax
import jax
import numpy as np

HERE = Path(__file__).parent
TOWER = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 2}
IMAGE = {"variant": None, "patch_size": (4, 4), "pool_type": "map", "num_classes": None, **TOWER}
HEAD = {name: value for name, value in IMAGE.items() if name != "num_classes"} | {"head_zeroinit": False}
TEXT = {"variant": None, "vocab_size": 20, **TOWER}


def import_two_towers(repository: Path):
    """The module, with nothing in place of `big_vision.utils`."""
    sys.path.insert(0, str(repository))
    sys.modules["big_vision.utils"] = utils = types.ModuleType("big_vision.utils")
    package = __import__("big_vision")
    package.utils = utils
    from big_vision.models.proj.image_text import two_towers

    return two_towers


def random_like(tree, seed: int):
    rng = np.random.default_rng(seed)
    names = {id(leaf): str(path) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    draw = lambda leaf: ("scale" in names[id(leaf)]) + 0.3 * rng.normal(size=leaf.shape)
    return jax.tree.map(lambda leaf: draw(leaf).astype(np.float32), tree)


def run(two_towers, image: dict, text: dict, out_dim, pixels, tokens) -> dict:
    """The parameters of a model, and what it gives before norms are taken out."""
    model = two_towers.Model(image=image, text=text, out_dim=out_dim, bias_init=-10.0, temperature_init=10.0)
    params = jax.device_get(model.init(jax.random.key(0), pixels, tokens)["params"])
    params = random_like(params, seed=1)
    with jax.default_matmul_precision("highest"):
        zimg, ztxt, found = model.apply({"params": params}, pixels, tokens)
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    return {f"params/{name}": leaf for name, leaf in flat.items()} | {
        "image": np.asarray(zimg * found["img/norm"]),
        "text": np.asarray(ztxt * found["txt/norm"]),
    }


def main() -> None:
    two_towers = import_two_towers(Path(sys.argv[1]))
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(2, 12, 12, 3)).astype(np.float32)
    tokens = rng.integers(2, 20, (2, 6)).astype(np.int32)
    plain, scan = {"scan": False}, {"scan": True}
    token = {"pool_type": "tok"}
    models = {
        "big_vision.npz": {
            "plain": (IMAGE | plain, TEXT | plain, (None, 16)),
            "scan": (IMAGE | scan, TEXT | scan, (None, 16)),
        },
        # image towers of LiT's kind: a class token, a head, or both
        "big_vision_lit.npz": {
            "head": (HEAD, TEXT, (12, 12)),
            "token": (IMAGE | token, TEXT, (None, 16)),
            "token and head": (HEAD | token | scan, TEXT, (12, 12)),
        },
    }
    for file, kinds in models.items():
        out = {"pixels": pixels, "tokens": tokens}
        for kind, (image, text, out_dim) in kinds.items():
            found = run(two_towers, image, text, out_dim, pixels, tokens)
            out |= {f"{kind}/{name}": value for name, value in found.items()}
        np.savez_compressed(HERE / file, allow_pickle=False, **out)
        print(file, {k: v.shape for k, v in out.items() if "params" not in k}, len(out))


if __name__ == "__main__":
    main()
