"""One device and eight give the same, and nothing but counts is sent between them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "eight_devices.py"
# On a busy machine eight threads may take long to meet.
PATIENT = " ".join(
    f"--xla_cpu_collective_call_{what}_timeout_seconds=900" for what in ("warn_stuck", "terminate")
)
NAMES = [
    node.name
    for node in ast.parse(SCRIPT.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.decorator_list
]


@pytest.fixture(scope="module")
def output():
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {PATIENT}", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT)],
        env=os.environ | flags,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_on_eight_devices(output, name):
    assert f"ok {name}\n" in output, output[-5000:]
