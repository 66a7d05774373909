"""The README tells of everything that can be called, set and met."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cln_paycodes import errors
from cln_paycodes.commands import COMMANDS
from cln_paycodes.rpc import PaycodesPlugin

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMAND_ROWS = README.partition("## Commands")[2].partition("\n## ")[0].splitlines()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_method_is_in_the_readme_with_its_parameters(name: str) -> None:
    """Each method has a row; its own parameters, shared terms aside, are in it."""
    (row,) = (line for line in COMMAND_ROWS if re.match(rf"\| [^|]*`{name}`", line))
    shared = {parameter.name for parameter in COMMANDS["paycode-create"].parameters} - {"label"}
    wanted = {parameter.name for parameter in COMMANDS[name].parameters}
    wanted -= shared if name == "paycode-update" else set()

    assert [
        parameter for parameter in sorted(wanted) if f"`{parameter}`" not in row and f"`[{parameter}]`" not in row
    ] == []


def test_every_option_is_in_the_readme() -> None:
    """Each option of the manifest has a row."""
    assert [name for name in PaycodesPlugin().options if f"| `{name}` |" not in README] == []


def test_every_error_code_is_in_the_readme() -> None:
    """Each code that a caller can meet is explained."""
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PaycodesError) and kind is not errors.PaycodesError
    }

    assert [code for code in sorted(codes) if str(code) not in README] == []
