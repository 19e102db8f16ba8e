"""A batch divided over the devices of a mesh, in a process that has eight of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import jax, numpy as np
import jaxalign as ja
from conftest import tiny_model

assert len(jax.devices()) == 8
model, key = tiny_model("emoji-clip"), jax.random.key(0)
x = np.random.default_rng(0).normal(size=(21, 12)).astype(np.float32)
mesh = jax.make_mesh((8,), ("data",))
devices = set()
run = lambda **more: ja.invert_to_text(model, x, steps=4, key=key, keep=(2,), batch_size=9, **more)
many = run(mesh=mesh, on_batch=lambda rows, part: devices.update(part.tokens.devices()))
assert len(devices) == 8, devices
one = run()
unit = lambda found: found.embeddings / np.linalg.norm(found.embeddings, axis=-1, keepdims=True)
np.testing.assert_allclose(unit(many), unit(one), rtol=0, atol=1e-6)
np.testing.assert_allclose(many.losses, one.losses, rtol=0, atol=1e-6)
# Adam divides by the gradient's own size, so a rounding difference in a tiny component grows
np.testing.assert_allclose(many.tokens, one.tokens, rtol=0, atol=1e-5)
"""


@pytest.mark.long
def test_a_mesh_gives_what_one_device_gives():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    where = {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=os.environ | flags | where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
