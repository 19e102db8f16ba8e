"""Hold that pyright knows the type of everything that `import jaxalign as ja` offers to a user's own program.

    python tools/public_types.py

A type checker in its strict mode complains of whatever it cannot tell in a library; `pyright --verifytypes`
says what that is. It looks at installed packages alone, so the library is copied into an environment of its
own. The command line, the conversion of checkpoints and the inside of the towers are left out: programs call
them, and do not build on their types.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSIDE = ("jaxalign.eval", "jaxalign.conversion", "jaxalign.models")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder)
        paths = {"base": folder, "platbase": folder}
        packages = Path(sysconfig.get_path("purelib", "venv", paths))
        shutil.copytree(
            ROOT / "jaxalign", packages / "jaxalign", ignore=shutil.ignore_patterns("__pycache__")
        )
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        path = os.pathsep.join([sysconfig.get_path("scripts", "venv", paths), os.environ["PATH"]])
        command = [
            sys.executable,
            "-m",
            "pyright",
            "--ignoreexternal",
            "--outputjson",
            "--verifytypes",
            "jaxalign",
        ]
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = [of for of in symbols if of["isExported"] and not of["name"].startswith(INSIDE)]
    unknown = [of for of in public if not of["isTypeKnown"] or of["isTypeAmbiguous"]]
    for of in unknown:
        print(f"{of['name']}: {'; '.join(said['message'] for said in of['diagnostics'])}")
    print(f"{len(public)} public names, {len(unknown)} of unknown type")
    return 1 if unknown or not public else 0


if __name__ == "__main__":
    sys.exit(main())
