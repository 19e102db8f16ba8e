"""Functions out of checkouts of the papers' repositories, to be timed as they are.

A function is compiled by itself: neither the imports of its file nor its other statements run, so none of the
repository's own dependencies, data or models are needed. What it refers to is given to it by name.
"""

import __future__

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError

REPOSITORIES = {
    "isoclip": "https://github.com/simomagi/IsoCLIP",
    "reevaluating": "https://github.com/Vision-Kek/Is-CLIP-Really-Misaligned",
    "cross_the_gap": "https://github.com/miccunifi/Cross-the-Gap",
}


def load_functions(
    checkout: str | Path, repository: str, file: str, names: Sequence[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The functions `names` of `file`, by name.

    Args:
      checkout: folder of the repository.
      repository: which one it should be, of `REPOSITORIES`.
      given: everything that the functions, their decorators and their defaults refer to; the functions find
        each other without it.

    Raises:
      JaxalignError: no such file, one that is no Python, or one without these functions: the repository has
        changed, or is another one.
    """
    path = Path(checkout) / file
    expected = f"expected a checkout of {REPOSITORIES[repository]}"
    if not path.is_file():
        raise JaxalignError(f"{checkout} has no {file}; {expected}")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise JaxalignError(f"{path} is no Python source ({error}); {expected}") from error
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    missing = [name for name in names if name not in found]
    if missing:
        raise JaxalignError(f"{path} has no function {', '.join(missing)}; {expected}, as it was published")
    module = ast.Module([found[name] for name in names], type_ignores=[])
    # Annotations stay text: they may name what is not there.
    code = compile(module, str(path), "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    namespace = dict(given)
    exec(code, namespace)  # what the user pointed to and asked to be run
    return {name: namespace[name] for name in names}
