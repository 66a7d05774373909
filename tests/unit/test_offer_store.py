"""The table of offers, and payments of them among the invoices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cln_paycodes.core.offers import Promise
from cln_paycodes.core.records import NodeInvoice
from cln_paycodes.core.terms import Terms
from cln_paycodes.store import invoices, offers, paycodes
from cln_paycodes.store.store import Sql
from samples import NOW, Explained, add_paycode, memory_sidecar, paycode_id_of


def fact_of(number: int) -> NodeInvoice:
    return NodeInvoice(
        label="",
        payment_hash=hashlib.sha256(bytes([number])).hexdigest(),
        status="paid",
        amount_msat=1000,
        received_msat=1001,
        bolt11=None,
        expires_at=NOW + 10,
        paid_at=NOW,
        created_index=number,
        updated_index=number,
        description="Tea",
        offer_id="offer",
        bolt12="lni1",
        payer_note=None,
    )


def add_offer(sql: Sql, paycode_id: str) -> None:
    promise = Promise.of(paycode_id, Terms(label="shop", description="Tea"))
    offers.save(sql, offer_id="offer", promise=promise, bolt12="lno1", active=True, now=NOW)


def add_payment(sql: Sql, fact: NodeInvoice) -> None:
    offer = offers.by_id(sql, "offer")
    assert offer is not None
    offers.add_payment(sql, offer, fact, comment=None, now=NOW)


def test_payments_of_an_offer_are_written_once_and_use_no_index() -> None:
    """The code's own indexes and sums stay as they are; the offer has its own."""
    with memory_sidecar() as sql:
        paycode_id = add_paycode(sql, "shop")
        add_offer(sql, paycode_id)
        for number in (1, 2, 1):
            add_payment(sql, fact_of(number))
        offer = offers.by_id(sql, "offer")
        paycode = paycodes.by_id(sql, paycode_id)
        rows = [invoices.by_hash(sql, fact_of(number).payment_hash) for number in (1, 2)]

    assert offer is not None
    assert paycode is not None
    assert (offer.paid, offer.received_msat) == (2, 2002)
    assert (paycode.next_index, paycode.issued, paycode.paid) == (1, 0, 0)
    assert [row.index for row in rows if row is not None] == [-1, -2]


HOT: dict[str, Callable[[Sql], Any]] = {
    "by_id": lambda sql: offers.by_id(sql, "offer"),
    "of_paycode": lambda sql: offers.of_paycode(sql, paycode_id_of("shop")),
    "add_payment": lambda sql: add_payment(sql, fact_of(1)),
}


@pytest.mark.parametrize("query", HOT.values(), ids=HOT)
def test_offer_and_its_payments_are_found_through_an_index(query: Callable[[Sql], Any]) -> None:
    """A payment of an offer costs the same, however many offers and payments there are; a code has few offers."""
    with memory_sidecar() as sql:
        add_offer(sql, add_paycode(sql, "shop"))
        explained = Explained(sql)
        query(explained)

    tables = [step for step in explained.plans if step != "USE TEMP B-TREE FOR ORDER BY"]
    assert tables
    assert [step for step in tables if not step.startswith("SEARCH")] == []
