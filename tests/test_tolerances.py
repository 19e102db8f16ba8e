"""A tolerance above 1e-5 has its reason beside it: on a line of the statement, or on the one before."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

ALLOWED = 1e-5
NAMES = {"atol", "rtol", "abs", "rel"}
STATEMENTS = (ast.Expr, ast.Assert, ast.Assign, ast.Return)
FILES = sorted(Path(__file__).parent.rglob("*.py"))


def is_wide(node: ast.AST) -> bool:
    if not isinstance(node, ast.keyword) or node.arg not in NAMES:
        return False
    numbers = [c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant)]
    return any(isinstance(x, int | float) and x > ALLOWED for x in numbers)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_wide_tolerance_has_a_reason(path):
    source = path.read_text(encoding="utf-8")
    if not any(f"{name}=" in source for name in NAMES):
        return
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, STATEMENTS)]
    bare = [
        f"{path.name}:{statement.lineno}"
        for statement in statements
        if any(map(is_wide, ast.walk(statement)))
        and not commented.intersection(range(statement.lineno - 1, (statement.end_lineno or 0) + 1))
    ]
    assert not bare
