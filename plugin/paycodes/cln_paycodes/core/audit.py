"""The sums of each code, from the books and from the node's own list, side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from .seen import IndexSet


@dataclass(slots=True)
class Sums:
    issued: int = 0
    paid: int = 0
    received_msat: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.issued + other.issued, self.paid + other.paid, self.received_msat + other.received_msat)


@dataclass(slots=True)
class NodeTally:
    """What the node's list shows of one code; meeting an invoice again, as it was or paid since, is no harm."""

    sums: Sums = field(default_factory=Sums)
    listed: IndexSet = field(default_factory=IndexSet)
    _paid: IndexSet = field(default_factory=IndexSet)

    def meet(self, index: int, status: str, received_msat: int | None) -> None:
        """`status` is the node's word."""
        self.meet_all([index], [(index, received_msat)] if status == "paid" else [])

    def meet_all(self, indexes: Collection[int], paid: Iterable[tuple[int, int | None]]) -> None:
        """Many; those that are paid with their `received_msat`."""
        self.sums.issued += self.listed.add_all(indexes)
        for index, received_msat in paid:
            if self._paid.add(index):
                self.sums.paid += 1
                self.sums.received_msat += received_msat or 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditLine:
    paycode_id: str
    label: str
    books: Sums
    node: Sums
    #: invoices that the node lists, and whose call the books have not the answer of yet
    under_way: int = 0
    #: of invoices in the books that the node does not list: cleaned away there, or not told of them yet
    cleaned: Sums

    @property
    def agree(self) -> bool:
        return self.books + Sums(self.under_way) == self.node + self.cleaned

    def answer(self) -> dict[str, Any]:
        return {
            "paycode_id": self.paycode_id,
            "label": self.label,
            **_named("", self.books),
            **_named("node_", self.node),
            **_named("cleaned_", self.cleaned),
            "agree": self.agree,
        }


def _named(prefix: str, sums: Sums) -> dict[str, int]:
    return {
        f"{prefix}issued": sums.issued,
        f"{prefix}paid": sums.paid,
        f"{prefix}received_msat": sums.received_msat,
    }
