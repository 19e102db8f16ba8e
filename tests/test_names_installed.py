"""One top-level name: what is installed, what lies beside it, and that no other `eval` gets in the way."""

import ast
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import jaxalign
import jaxalign.conversion
import jaxalign.eval

ROOT = Path(jaxalign.__file__).parents[1]
LINKS = {"jaxalign/conversion": "checkpoints_conversion", "jaxalign/eval": "eval"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CODE = ("jaxalign", *LINKS.values(), "tests", "tools", "benchmarks", "examples")
FILES = [path for name in CODE for path in sorted((ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize(("link", "folder"), LINKS.items())
def test_a_link_is_a_package_of_the_library(link, folder):
    assert (ROOT / link).resolve() == ROOT / folder
    module = sys.modules[link.replace("/", ".")]
    assert Path(module.__file__) == ROOT / link / "__init__.py"
    assert link in PROJECT["tool"]["pyright"]["include"]


def test_nothing_imports_the_folders_by_their_own_names():
    """Their modules would be there twice, with two sets of classes."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert not {name.split(".")[0] for name in names} & set(LINKS.values()), f"{path}:{node.lineno}"


def test_every_package_and_every_file_of_data_is_installed():
    """setuptools takes folders with an `__init__.py`, and of other files those that a pattern names."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for top in ("jaxalign", *LINKS.values()):
        name = next((link.replace("/", ".") for link, folder in LINKS.items() if folder == top), top)
        packages = {ROOT / top: name}
        for folder in sorted(path.parent for path in (ROOT / top).rglob("*.py")):
            assert (folder / "__init__.py").exists(), folder
        for path in (ROOT / top).rglob("*"):
            if path.is_dir() and (path / "__init__.py").exists():
                packages[path] = ".".join([name, *path.relative_to(ROOT / top).parts])
        named = [(folder, pattern) for folder, n in packages.items() for pattern in patterns.get(n, ())]
        for path in (ROOT / top).rglob("*"):
            if not path.is_file() or path.suffix in (".py", ".pyc") or path.name == "README.md":
                continue
            assert any(
                path.is_relative_to(folder) and fnmatch(str(path.relative_to(folder)), pattern)
                for folder, pattern in named
            ), f"{path} is in no wheel"


def test_every_pattern_of_data_names_a_file():
    for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            assert any((ROOT / package.replace(".", "/")).glob(pattern)), f"{package}: {pattern}"


@pytest.mark.parametrize("group", ["checkpoint_readers", "checkpoint_writers"])
def test_entry_points_are_those_of_the_project_and_load(group):
    stated = PROJECT["project"]["entry-points"][f"jaxalign.{group}"]
    found = {entry.name: entry for entry in entry_points(group=f"jaxalign.{group}")}
    assert {name: entry.value for name, entry in found.items()} == stated, "install the project again"
    assert all(entry.load() for entry in found.values())


@pytest.mark.long
def test_somebody_s_own_eval_is_not_in_the_way(tmp_path):
    """The folder of the process comes first on the path, and in a checkout PYTHONPATH may hold `eval/`."""
    (tmp_path / "eval").mkdir()
    for path in ("eval.py", "eval/__init__.py", "checkpoints_conversion.py"):
        (tmp_path / path).write_text("raise RuntimeError('somebody else is imported')\n")
    program = (
        "import sys; sys.argv = ['jaxalign', '--version']\n"
        "import jaxalign.conversion.reading, jaxalign.eval, jaxalign.eval.cli as cli\n"
        "assert not {'eval', 'checkpoints_conversion'} & set(sys.modules)\n"
        "sys.exit(cli.main(['--version']))\n"
    )
    for folder, path in ((tmp_path, "."), (ROOT, ".")):
        run = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env={"PYTHONPATH": path, "PATH": "", "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        assert (run.returncode, run.stderr) == (0, "")
        assert run.stdout.startswith("jaxalign ")


def test_the_module_is_the_command(tmp_path):
    (tmp_path / "eval.py").write_text("raise RuntimeError('somebody else is imported')\n")
    run = subprocess.run(
        [sys.executable, "-m", "jaxalign", "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("jaxalign ")


def test_extras_are_called_as_every_pip_finds_them():
    """Before 23.3 it asks the metadata, where names have hyphens, for what was written, warns and goes on."""
    for extra in PROJECT["project"]["optional-dependencies"]:
        assert extra == re.sub(r"[-_.]+", "-", extra).lower()
