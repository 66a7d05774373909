"""Sweeping the node's outgoing payments: which reached their end since the cursor, told or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from ..core.records import NodePayment
from ..node.port import Node
from .payments import Payments

#: Parts in one page.
PAGE = 100

#: The datastore's record of where this node's outgoing payments stood when the plugin was first started: what was
#: before is nobody's news.
ORIGIN_KEY = ("paycodes", "origin")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What one sweep did."""

    checked: int
    events: int
    #: the cursor afterwards
    reached: int
    #: the last part seen, to recognize the node by
    last_part: NodePayment | None
    #: a payment looks failed but may still be tried again
    unquiet: bool


class Outgoing:
    def __init__(self, node: Node, payments: Payments, *, dry_run: bool, check: Callable[[], None]) -> None:
        """`check` is called between two payments, and may raise."""
        self._node = node
        self._payments = payments
        self._dry_run = dry_run
        self._check = check

    def sweep(self, *, cursor: int, last: int) -> Sweep:
        """Tell the payments whose parts were updated behind `cursor`, up to index `last`.

        The cursor stays before a payment that may still be tried again, but those behind it are told.
        """
        checked = events = 0
        held_at, last_part, start = None, None, cursor + 1
        looked: dict[str, bool] = {}
        while start <= last:
            page = self._node.payments(index="updated", start=start, limit=PAGE)
            for part in page:
                self._check()
                checked += 1
                if part.payment_hash not in looked and not self._payments.is_told(part):
                    made, looked[part.payment_hash] = self._payments.look_outgoing(
                        part.payment_hash, dry_run=self._dry_run
                    )
                    events += made
                if not looked.get(part.payment_hash, True) and held_at is None:
                    held_at = part.updated_index
                last_part = part
            if len(page) < PAGE:
                break
            start = (page[-1].updated_index or last) + 1
        reached = last if held_at is None else held_at - 1
        return Sweep(checked=checked, events=events, reached=reached, last_part=last_part, unquiet=held_at is not None)

    def origin(self, last: int) -> int:
        """Where outgoing payments stood when the plugin was first started on this node; never beyond `last`."""
        noted = _noted_origin(self._node)
        if noted is not None and noted <= last:
            return noted
        if not self._dry_run:  # someone removed it, or the node is an older backup of itself
            _write_origin(self._node, last)
        return last


def note_origin(node: Node) -> None:
    """At the first start on a node: its outgoing payments until now are nobody's news, those from now on are."""
    if _noted_origin(node) is None:
        _write_origin(node, node.last_index(subsystem="sendpays", index="updated"))


def _noted_origin(node: Node) -> int | None:
    for datum in node.read_datastore(*ORIGIN_KEY):
        try:
            return int(json.loads(datum.text or "")["sendpays_updated"])
        except (ValueError, KeyError, TypeError):
            return None
    return None


def _write_origin(node: Node, last: int) -> None:
    node.write_datastore(ORIGIN_KEY, json.dumps({"v": 1, "sendpays_updated": last}))
