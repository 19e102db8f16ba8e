"""Put a trained model into the package: `jaxalign/embedded/<name>/`, weights in half precision.

    python tools/export_embedded.py emoji-clip /tmp/emoji-clip

Reads what `train_embedded.py` left in its state folder: model.json, params.msgpack, tokenizer.json, loss.csv.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Literal

import flax.serialization
import jax
import jax.numpy as jnp
import tyro
from training_sizes import noted_spec

import jaxalign as ja
from jaxalign.inputs.tokenization import load_tokenizer
from jaxalign.weights.identity import Origin

TARGET = Path(__file__).parents[1] / "jaxalign" / "embedded"


def main(name: Literal["emoji-clip", "emoji-siglip"], state: Path, /, target: Path = TARGET) -> None:
    """Write the model `name` from the folder `state`; replaces an earlier export."""
    spec = noted_spec(state, name)
    params = flax.serialization.msgpack_restore((state / "params.msgpack").read_bytes())
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    # this is where the record's weights are from, whatever they were before
    origin = Origin.of(spec, params)
    model = ja.DualEncoder(spec, params, load_tokenizer(spec, state), origin=origin)
    folder = target / name
    (folder / "loss.csv").unlink(missing_ok=True)  # `save` replaces no folder that holds more than a model
    ja.save(model, folder, dtype=jnp.float16)
    shutil.copyfile(state / "loss.csv", folder / "loss.csv")
    size = sum(p.stat().st_size for p in folder.iterdir())
    weights = (folder / "model.safetensors").read_bytes()
    print(f"{folder}: {size / 1e6:.1f} MB")
    print(f"for jaxalign/specs/published.py: {len(weights):_}, {hashlib.sha256(weights).hexdigest()}")


if __name__ == "__main__":
    tyro.cli(main)
