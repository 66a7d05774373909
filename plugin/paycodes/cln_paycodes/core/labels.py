"""The node's invoice label, `paycode/<paycode_id>/<index>`: alone enough to rebuild a row of the books."""

from __future__ import annotations

import re
from typing import NamedTuple

#: An index of at most 18 digits: it fits in SQLite's integer, and the one after it too.
_LABEL = re.compile(r"paycode/([0-9a-f]{64})/([1-9][0-9]{0,17})", re.ASCII)


class Slot(NamedTuple):
    """One invoice's place: which code, which index."""

    paycode_id: str
    #: the tuple's own method of this name is for searching, which nobody does in a place
    index: int  # type: ignore[assignment]

    @property
    def label(self) -> str:
        return f"paycode/{self.paycode_id}/{self.index}"


def parse_label(label: str) -> Slot | None:
    """The slot that a node's invoice label names, or None when the label is not ours."""
    match = _LABEL.fullmatch(label)
    return Slot(match[1], int(match[2])) if match else None
