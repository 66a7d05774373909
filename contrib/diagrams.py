"""Draws the state machines into README.md, from the tables that the plugin itself goes by.

    make diagrams

Each stands between two comments that name it. A unit test fails while a drawing and its table differ.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "plugin" / "paycodes"))

from cln_paycodes.core.actions import FIRST, MACHINES, ActionKind, End
from cln_paycodes.core.states import FINAL, MOVES, InvoiceStatus

README = ROOT / "README.md"

_PLACE = re.compile(r"(<!-- states of (?P<name>[^>]+): make diagrams -->\n).*?(<!-- end of states -->)", re.DOTALL)


def _lines_of_invoice() -> Iterator[str]:
    yield f"[*] --> {InvoiceStatus.RESERVED}"
    for now, moves in MOVES.items():
        for to in InvoiceStatus:
            if to in moves:
                yield f"{now} --> {to}" + (" : money" if now in FINAL else "")
    for status in InvoiceStatus:
        if status in FINAL:
            yield f"{status} --> [*]"


def _lines_of_action(kind: ActionKind) -> Iterator[str]:
    yield f"[*] --> {FIRST[kind]}"
    for now, moves in MACHINES[kind].items():
        yield from (f"{now} --> {to}" for to in MACHINES[kind] if to in moves)
        yield from (f"{now} --> [*] : {end}" for end in End if end in moves)


#: What can be drawn, by the name in the comment.
DIAGRAMS: dict[str, Callable[[], Iterator[str]]] = {
    "an invoice": _lines_of_invoice,
    **{f"the action {kind}": partial(_lines_of_action, kind) for kind in ActionKind},
}


def draw(name: str) -> str:
    """Mermaid in a code block, which those who show Markdown draw."""
    lines = "".join(f"    {line}\n" for line in DIAGRAMS[name]())
    return f"```mermaid\nstateDiagram-v2\n{lines}```\n"


def redraw(text: str) -> str:
    """The text with every drawing as the tables are now; ValueError when one has no place or two in it."""
    places = [match["name"] for match in _PLACE.finditer(text)]
    if sorted(places) != sorted(DIAGRAMS):
        raise ValueError(f"there are drawings of {', '.join(DIAGRAMS)}; there are places for {', '.join(places)}")
    return _PLACE.sub(lambda match: match[1] + draw(match["name"]) + match[3], text)


if __name__ == "__main__":
    README.write_text(redraw(README.read_text()))
    print(f"{README} has the state machines as they are")
