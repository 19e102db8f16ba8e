"""What `import jaxalign` costs, in a process of its own."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys, time
start = time.perf_counter()
import jax, jax.numpy
first = time.perf_counter()
import jaxalign
for name in jaxalign.__all__:
    getattr(jaxalign, name)
second = time.perf_counter()
print(json.dumps({"jax": first - start, "jaxalign": second - first, "modules": sorted(sys.modules)}))
"""


def test_import_is_light():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    result = json.loads(run.stdout)
    loaded = {name.split(".")[0] for name in result["modules"]}
    heavy = {
        "tensorflow",
        "torch",
        "transformers",
        "tensorflow_datasets",
        "matplotlib",
    }
    assert not loaded & heavy
    assert not {"jaxalign.eval", "jaxalign.conversion"} & set(result["modules"])
    # two seconds on an idle machine; a busy one slows `import jax` by the same factor (0.6 s when idle)
    assert result["jaxalign"] < max(2.0, 2.0 * result["jax"] / 0.6)


def test_layers_import_downwards():
    """`jaxalign.conversion` does not import `jaxalign.eval`; the library imports neither, as seen above."""
    program = "import sys, jaxalign.conversion.reading; print('jaxalign.eval' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
