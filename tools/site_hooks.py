"""Hooks of the documentation site (`mkdocs.yml`): pages that are generated, so that they cannot go stale.

The functions come from their docstrings, the commands from their `--help`, the notebooks' pages from the
notebooks. Pages link to files as these lie in the repository; the site takes along what lies outside `docs/`.
"""

import contextlib
import inspect
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import jaxalign as ja

ROOT = Path(__file__).resolve().parents[1]
ALONGSIDE = "repository"  # where the site keeps what lies outside docs/
WIDTH = 100  # columns of the help on the page of the commands
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


# The pages of the functions and types.
FUNCTIONS: Mapping[str, str] = {
    "Models": "load save find_spec MODELS ModelSpec DualEncoder ImageProcessor Tokenizer",
    "Projectors": """
        isoclip whiten decompose inter_modal_operator linearize_mlp_head bake Projector Projectors Spectrum
    """,
    "Spectra": "select_band intra_modal_spectrum spectral_regions grown_bands analyse_bands BandAnalysis",
    "Subspaces": "principal_subspace Subspace class_names imagenet_templates",
    "Choosing": "sweep_bands sweep_ranks BandSweep RankSweep",
    "Inversion": "invert_to_text invert_to_image Inversion",
    "Captions": "load_captioner Captioner",
    "Retrieval": """
        retrieval_metrics average_precision text_retrieval_metrics revisited_metrics randomization_test
    """,
    "Indicators": """
        similarity_histograms modality_histograms histogram_overlap modality_gap effective_rank
        dogs_versus_cats SimilarityHistograms ModalityHistograms DogsVersusCats
    """,
    "Classifiers": """
        zero_shot_classifier prototype_classifier ncm_classifier lda_classifier tip_adapter tip_x ape coder
        ensemble_text_weights few_shot_accuracy sample_shots search_hyperparameters Classifier
        LinearClassifier CacheClassifier FewShotAccuracy HyperparameterSearch
    """,
    "Recovery": """
        recover_image_embeddings recover_intra_similarities anchor_conditioning RecoveredSimilarities
        AnchorConditioning
    """,
    "Errors": "JaxalignError",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation without pages that are not there yet, and with those that are generated."""
    functions = [{title: function_page(title)} for title in FUNCTIONS]
    assert config.nav is not None
    config.nav = [
        {title: list(_present(entries, functions))} for ((title, entries),) in map(dict.items, config.nav)
    ]
    return config


def _present(entries: list[Any], functions: list[dict[str, str]]) -> Iterator[Any]:
    for entry in entries:
        if entry == "notebooks.md":
            yield {"Notebooks": [entry, *(f"notebooks/{notebook.stem}.md" for notebook in notebooks())]}
        elif isinstance(entry, dict):
            yield {"Functions": functions}
        elif entry.startswith("reference/") or (ROOT / "docs" / entry).exists():
            yield entry


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files of the repository that pages link to."""
    for title in FUNCTIONS:
        files.append(File.generated(config, function_page(title), content="\n".join(functions_of(title))))
    files.append(File.generated(config, "reference/commands.md", content="\n".join(commands())))
    for notebook in notebooks():
        content = "\n\n".join(cells_of(notebook))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=content))
    for path in sorted(linked_files()):
        place = f"{ALONGSIDE}/{path}"
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are on the site, and the figures of the benchmarks where the page asks for them."""
    figures = (ROOT / "benchmarks" / "results.md").read_text(encoding="utf-8")
    markdown = markdown.replace("<!-- benchmarks/results.md -->", figures)
    place = page.file.src_uri
    origin = (
        Path(place.removeprefix(f"{ALONGSIDE}/"))
        if place.startswith(f"{ALONGSIDE}/")
        else Path("docs") / place
    )

    def on_site(link: re.Match[str]) -> str:
        target = in_repository(origin.parent, link[2])
        if target is None:
            return link[0]
        there = target.removeprefix("docs/") if target.startswith("docs/") else f"{ALONGSIDE}/{target}"
        return link[1] + os.path.relpath(there, Path(place).parent) + link[3]

    return _LINK.sub(on_site, markdown)


def in_repository(folder: Path, link: str) -> str | None:
    """Where a link on a page in `folder` leads to in the repository; None where it leads to no file there."""
    if re.match(r"[a-z]+:", link):
        return None
    target = os.path.normpath(folder / link)
    return target if (ROOT / target).is_file() else None


def linked_files() -> set[str]:
    """Files outside docs/ that pages link to, and those that these link to."""
    found: set[str] = set()
    waiting = [path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")]
    while waiting:
        page = waiting.pop()
        for link in _LINK.finditer((ROOT / page).read_text(encoding="utf-8")):
            target = in_repository(page.parent, link[2])
            if target and not target.startswith("docs/") and target not in found:
                found.add(target)
                waiting += [Path(target)] if target.endswith(".md") else []
    return found


def function_page(title: str) -> str:
    return f"reference/functions/{title.lower()}.md"


def functions_of(title: str) -> Iterator[str]:
    """The page of a group: what its modules say of themselves, then every name with its docstring."""
    yield f"# {title}"
    modules: dict[str, list[str]] = {}
    for name in FUNCTIONS[title].split():
        value = getattr(ja, name)
        modules.setdefault(getattr(value, "__module__", "jaxalign.specs"), []).append(name)
    for module, names in modules.items():
        heading = module.rpartition(".")[2].replace("_", " ").capitalize()
        yield f"\n## {heading}\n" if heading != title else ""
        yield inspect.getdoc(sys.modules[module]) or ""
        for name in names:
            yield f"\n::: {module}.{name}\n"


def commands() -> Iterator[str]:
    """The page of the commands: each one's `--help`."""
    from jaxalign.eval import cli
    from jaxalign.eval.cli.help_pages import GROUPS, summary

    yield "# Commands\n\nWhat `--help` says, of all commands and of each.\n"
    yield from help_of()
    for title, names in GROUPS.items():
        yield f"\n## {title.capitalize()}\n"
        for name in filter(cli.COMMANDS.get, names):
            yield f"\n### jaxalign {name}\n\n{summary(cli.COMMANDS[name])}\n"
            yield from help_of(name)


def help_of(*command: str) -> Iterator[str]:
    """What a command says of itself, as a block of code."""
    from jaxalign.eval import cli

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            cli.main([*command, "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    yield "```text\n" + said.getvalue().rstrip() + "\n```"


def notebooks() -> list[Path]:
    return sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells_of(notebook: Path) -> Iterator[str]:
    """A notebook as a page: texts, and code in blocks."""
    content: Mapping[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        text = "".join(cell["source"])
        yield text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
    yield f"[The notebook as a file](../notebooks/{notebook.name})"
