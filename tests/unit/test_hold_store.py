"""The table of holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cln_paycodes.core.states import InvoiceStatus
from cln_paycodes.store import holds
from cln_paycodes.store.store import Sql
from samples import NOW, Explained, add_invoice, add_paycode, hash_of, memory_sidecar, slot_of

S = InvoiceStatus
HASH = hash_of(slot_of("tea", 1))

HOT: dict[str, Callable[[Sql], Any]] = {
    "by_hash": partial(holds.by_hash, payment_hash=HASH),
    "pending": holds.pending,
    "set_reason": partial(holds.set_reason, payment_hash=HASH, reason="canceled by the operator"),
}


def add_hold(sql: Sql, index: int, status: InvoiceStatus, deadline: int) -> None:
    slot = slot_of("tea", index)
    add_invoice(sql, slot, status, hold=True)
    holds.insert(
        sql, hash_of(slot), parts=[("1x2x3", index)], amount_msat=21, accepted_at=NOW, claim_deadline_height=deadline
    )


def test_pending_holds_come_most_urgent_first() -> None:
    """Those that wait for the operator, and those that are being settled; none that is at its end."""
    with memory_sidecar() as sql:
        add_paycode(sql, "tea", hold=True)
        for index, (status, deadline) in enumerate([(S.ACCEPTED, 300), (S.SETTLING, 200), (S.CANCELED, 100)], start=1):
            add_hold(sql, index, status, deadline)
        pending = [(hold.index, hold.status, hold.parts) for hold in holds.pending(sql)]

    assert pending == [(2, S.SETTLING, {("1x2x3", 2)}), (1, S.ACCEPTED, {("1x2x3", 1)})]


@pytest.mark.parametrize("query", HOT.values(), ids=HOT)
def test_hold_is_found_through_an_index(query: Callable[[Sql], Any]) -> None:
    """What was held before costs nothing: only open invoices are looked through for those that are."""
    with memory_sidecar() as sql:
        add_paycode(sql, "tea", hold=True)
        add_hold(sql, 1, S.ACCEPTED, 300)
        explained = Explained(sql)
        query(explained)

    tables = [step for step in explained.plans if step != "USE TEMP B-TREE FOR ORDER BY"]
    assert tables
    assert [step for step in tables if not step.startswith("SEARCH")] == []
