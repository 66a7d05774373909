"""A crash point that nothing passes, or at which no test kills, would promise what nobody has seen."""

from __future__ import annotations

import ast
from pathlib import Path

import cln_paycodes
from cln_paycodes import crash

PACKAGE = Path(cln_paycodes.__file__).parent
CRASH_TESTS = Path(__file__).parents[1] / "crash"


def strings_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def passed_in(path: Path) -> set[str]:
    """The names of `crash.point(...)`."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) == "crash.point"
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_crash_point_is_passed_by_the_code() -> None:
    """And the code passes no other."""
    assert set().union(*map(passed_in, PACKAGE.rglob("*.py"))) == crash.POINTS


def test_every_crash_point_is_killed_at_by_a_test() -> None:
    """Each is named by a test of crashes."""
    assert crash.POINTS - set().union(*map(strings_in, CRASH_TESTS.glob("test_*.py"))) == set()
