"""README and docs/: commands that exist, links that lead somewhere, numbers as measured, code that runs."""

import doctest
import importlib
import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path

import matplotlib
import pytest

import jaxalign as ja
from jaxalign.eval import cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def names_of(pages: list[Path]) -> list[str]:
    return [page.name for page in pages]


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_command_of_a_page_is_parsed(page):
    """What they name may not be here; but each command and option there is."""
    blocks = re.findall(r"^```(?:\w*)\n(.*?)^```$", text_of(page), re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        if line.startswith("jaxalign "):
            _, *arguments = shlex.split(line.partition(" | ")[0], comments=True)
            assert not isinstance(cli.parse(arguments), int), line


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_link_leads_to_a_file(page):
    for link in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text_of(page)):
        assert re.match("https?:", link) or (page.parent / link).is_file(), link


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_every_file_of_ours_that_a_page_names_is_there(page):
    ours = r"`((?:jaxalign|eval|checkpoints_conversion|tools|tests|benchmarks|examples)/[\w./-]+)`"
    assert [name for name in re.findall(ours, text_of(page)) if not (ROOT / name).exists()] == []


def test_the_readme_is_short_and_shows_what_was_measured():
    lines = text_of(README).splitlines()
    assert len(lines) <= 150
    measured = text_of(ROOT / "docs" / "real_clip.md")
    rows = [line.split(" | ") for line in lines if re.match(r"\| (Caltech101|DTD|Flowers102|Pets) \|", line)]
    assert len(rows) == 4
    for name, *numbers in rows:
        short = re.sub(r"\W|\d", "", name)
        assert re.search(rf"^\| {short} \| \d+ \| {' . '.join(numbers)[:-2]} \|", measured, re.M), name


def test_the_citation_is_of_this_version_and_of_both_papers():
    citation = text_of(ROOT / "CITATION.cff")
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert f"\nversion: {project['version']}\n" in citation
    for paper in ("2603.19862", "2603.16100"):
        assert paper in citation
        assert f"https://arxiv.org/abs/{paper}" in text_of(README)
        assert f"https://arxiv.org/abs/{paper}" in project["urls"].values()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=names_of(NOTEBOOKS))
@pytest.mark.long
def test_a_notebook_runs(notebook, monkeypatch, tmp_path, capsys):
    """All of its code, on few images."""
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads(text_of(notebook))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    few = [re.sub(r"^(NAMES|IMAGES|BATCH) = \d+", r"\1 = 12", block, flags=re.M) for block in code]
    assert few != code
    names: dict[str, object] = {}
    for block in few:
        exec(compile(block, notebook.name, "exec"), names)
    assert "mAP" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["isoclip", "reevaluating", "degrees_of_freedom"])
@pytest.mark.long
def test_the_python_of_a_page_runs(name):
    blocks = re.findall(r"^```python\n(.*?)^```$", text_of(ROOT / "docs" / f"{name}.md"), re.M | re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, f"{name}.md", "exec"), {})


MODULES = sorted({getattr(getattr(ja, name), "__module__", "jaxalign") for name in ja.__all__} - {"jaxalign"})


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.long
def test_examples_of_docstrings(module):
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def test_every_public_function_has_an_example_and_every_name_says_what_it_is():
    for name in ja.__all__:
        value = getattr(ja, name)
        assert name == "MODELS" or value.__doc__, name
        assert not inspect.isfunction(value) or "Examples:\n  >>> " in (inspect.getdoc(value) or ""), name


def test_every_public_name_is_on_one_page_of_the_site():
    pytest.importorskip("mkdocs")
    hooks = importlib.import_module("tools.site_hooks")
    listed = [name for names in hooks.FUNCTIONS.values() for name in names.split()]
    assert sorted(listed) == sorted(ja.__all__)
