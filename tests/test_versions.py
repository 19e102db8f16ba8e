"""The oldest and the newest versions that are tested, and what says so."""

import importlib.util
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def oldest():
    spec = importlib.util.spec_from_file_location("oldest_versions", ROOT / "tools" / "oldest_versions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_oldest_version_is_the_lower_bound(oldest):
    given = ["a>=1", "b_c-d >= 2.0.1; sys_platform == 'linux'"]
    assert oldest.constraints(given) == ["a==1", "b_c-d==2.0.1 ; sys_platform == 'linux'"]


@pytest.mark.parametrize("requirement", ["a", "a==1", "a>=1,<2", "a[b]>=1"])
def test_without_a_lower_bound_there_is_no_oldest(oldest, requirement):
    with pytest.raises(ValueError, match="expected NAME>=VERSION"):
        oldest.constraints([requirement])


def test_every_dependency_has_an_oldest_version(oldest, capsys):
    oldest.main()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(PROJECT["dependencies"]) + len(PROJECT["optional-dependencies"]["test"])
    assert any(line.startswith("jax==") for line in printed)


def test_classifiers_name_the_versions_that_are_tested():
    found = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3" in line]
    assert found == ["3.11", "3.13"]
    assert PROJECT["requires-python"] == ">=3.11"
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "tools/oldest_versions.py" in script
    assert "tools/python313.sh" in script


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_where_there_is_no_debootstrap_the_newest_python_is_left_out_and_that_is_said(tmp_path):
    for program in ("bash", "uname"):
        (tmp_path / program).symlink_to(shutil.which(program))
    run = subprocess.run(
        [tmp_path / "bash", ROOT / "tools" / "python313.sh"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("skipped, Python 3.13 is not tested: ")
