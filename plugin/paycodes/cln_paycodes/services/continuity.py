"""Is this the node that the cursors were read from, and does it go on where they end?

A node that was restored from an older backup counts on from there: its indexes are behind the cursors or, once it has
been used, ahead of them with other entries under the same numbers. So with each cursor the identity of the last entry
seen is kept, and looked at again when the plugin starts: a node cannot be restored while its plugins run.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.records import NodePayment
from ..node.port import Node
from ..store import cursors, invoices
from ..store.store import Sql, Store

_ANCHOR = "anchor/"


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    #: this sidecar has never seen the node's list
    fresh: bool
    #: the node has forgotten what came after an older backup
    rewound: bool
    #: the cursors can be relied on; else everything is looked at
    certain: bool


class Anchors:
    """The last entries seen by each index: what a later run recognizes the node by."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, str]] = {}

    def meet(self, payment_hash: str, *, created: int, updated: int) -> None:
        """An invoice; `updated` is 0 when it never was."""
        self._note("invoices.created", created, payment_hash)
        if updated:
            self._note("invoices.updated", updated, payment_hash)

    def meet_part(self, part: NodePayment) -> None:
        if part.updated_index is not None:
            self._note("sendpays.updated", part.updated_index, part.payment_hash)

    def _note(self, cursor: str, index: int, identity: str) -> None:
        before = self._seen.get(cursor)
        if before is None or before[0] < index:
            self._seen[cursor] = (index, identity)

    def keep(self, sql: Sql, *, everything: bool) -> None:
        """Keep what was seen; in a run over everything, what was not seen is there no more."""
        if everything:
            for cursor in ("invoices.created", "invoices.updated"):
                cursors.drop_fact(sql, _ANCHOR + cursor)
        for cursor, (index, identity) in self._seen.items():
            cursors.put_fact(sql, _ANCHOR + cursor, f"{index}:{identity}")


class Continuity:
    def __init__(self, store: Store, node: Node, *, first: bool) -> None:
        """`first`: no run has looked since the plugin was started."""
        self._store = store
        self._node = node
        self._first = first

    def state(self, before: dict[str, int], last: dict[str, int]) -> State:
        """`before` are the cursors of invoices, `last` the node's indexes now."""
        known = {name: before.get(f"invoices.{name}") for name in last}
        if any(value is None for value in known.values()):
            return State(fresh=True, rewound=False, certain=False)
        if any(last[name] < (known[name] or 0) for name in last):
            return State(fresh=False, rewound=True, certain=False)
        if not self._first:
            return State(fresh=False, rewound=False, certain=True)
        none_deleted = last["deleted"] == known["deleted"]
        seen = [self._recognizes(name) for name in ("created", "updated")]
        seen.append(self._has_newest())
        if False in seen or (None in seen and none_deleted):
            return State(fresh=False, rewound=True, certain=False)
        return State(fresh=False, rewound=False, certain=None not in seen)

    def _has_newest(self) -> bool | None:
        """Whether the node has the newest open invoice of the books, which no cursor may have reached yet."""
        newest = self._store.read(invoices.newest_issued)
        return True if newest is None or self._node.invoice_by_label(newest.label) is not None else None

    def knows_payments(self) -> bool:
        """The last outgoing payment seen is the one that the node has under its index."""
        anchor = self._anchor("sendpays.updated")
        if anchor is None or not self._first:
            return True
        index, _, identity = anchor.partition(":")
        page = self._node.payments(index="updated", start=int(index), limit=1)
        return bool(page) and page[0].updated_index == int(index) and page[0].payment_hash == identity

    def _anchor(self, cursor: str) -> str | None:
        return self._store.read(lambda sql: cursors.fact(sql, _ANCHOR + cursor))

    def _recognizes(self, name: str) -> bool | None:
        """Whether the entry under an anchor's index is the one that was there; None when there is none any more."""
        anchor = self._anchor(f"invoices.{name}")
        if anchor is None:
            return True  # nothing was ever seen by this index
        index, _, identity = anchor.partition(":")
        page = self._node.invoices(index=name, start=int(index), limit=1)
        found = page[0] if page else None
        if found is None or (found.created_index if name == "created" else found.updated_index) != int(index):
            return None
        return found.payment_hash == identity
