"""A small `two_towers` model of big_vision with random weights, and what it gives: `big_vision.npz`.

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
TEXT = {"variant": None, "vocab_size": 20, "num_classes": 16, **TOWER}


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


def main() -> None:
    two_towers = import_two_towers(Path(sys.argv[1]))
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(2, 12, 12, 3)).astype(np.float32)
    tokens = rng.integers(2, 20, (2, 6)).astype(np.int32)
    out = {"pixels": pixels, "tokens": tokens}
    for kind in ("plain", "scan"):
        scan = {"scan": kind == "scan"}
        model = two_towers.Model(
            image=IMAGE | scan, text=TEXT | scan, out_dim=(None, 16), bias_init=-10.0, temperature_init=10.0
        )
        params = jax.device_get(model.init(jax.random.key(0), pixels, tokens)["params"])
        params = random_like(params, seed=1)
        with jax.default_matmul_precision("highest"):
            zimg, ztxt, found = model.apply({"params": params}, pixels, tokens)
        flat = flax.traverse_util.flatten_dict(params, sep="/")
        out |= {f"{kind}/params/{name}": leaf for name, leaf in flat.items()}
        out |= {
            f"{kind}/image": np.asarray(zimg * found["img/norm"]),
            f"{kind}/text": np.asarray(ztxt * found["txt/norm"]),
        }
    np.savez_compressed(HERE / "big_vision.npz", allow_pickle=False, **out)
    print({k: v.shape for k, v in out.items() if "params" not in k}, len(out))


if __name__ == "__main__":
    main()
