"""How the code is built: where imports point, sizes, and which names the command line lists."""

import ast
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from command_options import choices, options

from jaxalign.baking import BAKED
from jaxalign.classifiers import FEW_SHOT
from jaxalign.conversion.libraries import LIBRARIES
from jaxalign.dual_encoder import COMPUTE_DTYPES
from jaxalign.eval import cli
from jaxalign.eval.cli.groups import ReadingOptions
from jaxalign.eval.export import DTYPES
from jaxalign.eval.features.embed import BATCH, THREADS, Unreadable
from jaxalign.eval.tasks.classification import NCM, ZERO_SHOT
from jaxalign.eval.tasks.classifying import DRAWS
from jaxalign.eval.tasks.given import STAGES
from jaxalign.eval.tasks.methods import METHODS, SUBSPACES
from jaxalign.eval.tasks.pairs import VARIANTS
from jaxalign.eval.tasks.views import VIEWS
from jaxalign.specs.model_spec import Layout
from jaxalign.weights.tensors import STORED_DTYPES

ROOT = Path(__file__).parent.parent
# Folders and what they are called; each may import those before it.
LAYERS = {
    "jaxalign": ROOT / "jaxalign",
    "jaxalign.conversion": ROOT / "checkpoints_conversion",
    "jaxalign.eval": ROOT / "eval",
}
FILE, BODY = 400, 50  # lines, at most


@cache
def modules() -> Mapping[str, Path]:
    """All modules of the product by name."""
    found = {}
    for layer, folder in LAYERS.items():
        for file in folder.rglob("*.py"):  # which does not follow links
            parts = file.relative_to(folder).with_suffix("").parts
            if f"{layer}.{parts[0]}" not in LAYERS:
                found[".".join((layer, *parts)).removesuffix(".__init__")] = file
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def layer(name: str) -> str:
    if name == "jaxalign.__main__":  # the program, which starts the command line
        return "jaxalign.eval"
    return max((found for found in LAYERS if f"{name}.".startswith(f"{found}.")), key=len)


def imports(name: str, *, typing_too: bool = True) -> Iterator[str]:
    """The modules of the product that a module imports, within functions too."""
    package = name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]
    nodes: list[ast.AST] = [tree(name)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING" and not typing_too:
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        if isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            whole = ".".join(filter(None, (above, node.module)))
            for alias in node.names:
                yield from [m for m in (f"{whole}.{alias.name}", whole) if m in modules()][:1]


def test_imports_point_one_way():
    """The library imports neither of the others, and conversion not what evaluates."""
    order = list(LAYERS)
    wrong = [
        f"{name} imports {other}"
        for name in modules()
        for other in imports(name)
        if order.index(layer(other)) > order.index(layer(name))
    ]
    assert not wrong


def circles() -> list[set[str]]:
    """Sets of modules that all import each other, directly or by others."""
    reached: dict[str, set[str]] = {}
    edges = {name: set(imports(name, typing_too=False)) - {name} for name in modules()}
    for name in modules():
        seen, waiting = set(), [name]
        while waiting:
            new = edges[waiting.pop()] - seen
            seen |= new
            waiting += new
        reached[name] = seen
    found: list[set[str]] = []
    for name in modules():
        if name in reached[name] and not any(name in circle for circle in found):
            found.append({other for other in reached[name] if name in reached[other]})
    return found


def test_imports_make_no_circle():
    assert not [sorted(circle) for circle in circles()]


def test_files_and_functions_are_short():
    long = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in modules().items()}
    for name in modules():
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                long[f"{name}.{node.name}"] = (node.end_lineno or 0) - first.lineno + 1 + FILE - BODY
    assert not {name: lines for name, lines in long.items() if lines > FILE}


# Where the values come from that an option lists, for all commands or for one of them.
LAYOUTS = typing.get_args(Layout)
REGISTRIES: dict[str, typing.Iterable[str]] = {
    "classifiers": (ZERO_SHOT, NCM, *FEW_SHOT),
    "convert dtype": STORED_DTYPES,
    "bake method": BAKED,
    "format": LIBRARIES,
    "draws": DRAWS,
    "dtype": COMPUTE_DTYPES,
    "layout": LAYOUTS,
    "modality": METHODS,
    "npy_dtype": DTYPES,
    "stage": STAGES,
    "subspace": set(SUBSPACES) - {"few-shot"},
    "unreadable": typing.get_args(Unreadable),
    "variant": VARIANTS,
    "views": VIEWS,
}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_names_on_the_command_line_are_those_of_a_registry(command):
    for name, hint in options(cli.COMMANDS[command]).items():
        if listed := choices(hint):
            known = REGISTRIES.get(f"{command} {name}", REGISTRIES.get(name, ()))
            assert sorted(listed) == sorted(known), name


def test_defaults_on_the_command_line_are_those_of_the_library():
    assert (ReadingOptions().batch_size, ReadingOptions().threads) == (BATCH, THREADS)


def test_an_option_is_the_same_in_every_command_that_has_it():
    """But where it is about something else: names of a table, weights on disk, what is drawn."""
    own = {"methods", "method", "layout", "out", "dtype", "dataset", "split", "query", "names"}
    own |= {"models", "datasets", "distractors", "folder", "page", "weights"}
    found: dict[str, set[str]] = {}
    for kind in cli.COMMANDS.values():
        for name, hint in options(kind).items():
            told = [arg for arg in getattr(hint, "__metadata__", ()) if hasattr(arg, "help_behavior_hint")]
            found.setdefault(name, set()).add(repr([(arg.metavar, arg.help) for arg in told]))
    assert {name for name, told in found.items() if len(told) > 1} <= own
