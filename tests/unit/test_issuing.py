"""An invoice is on a disk before its caller has it: the node's where that tells all of it, else the sidecar's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import NodeInvoice
from cln_paycodes.core.terms import Issue
from cln_paycodes.errors import NodeRefused
from cln_paycodes.node.port import INVOICE_LABEL_ALREADY_EXISTS, Issued, Wanted
from cln_paycodes.services.issuing import Request
from making import Bench
from samples import NOW, commit_levels

DEADLINE_S = 20

#: SQLite's `synchronous` of a commit.
READABLE, ON_DISK = 1, 2

WORDS: dict[str, dict[str, Any]] = {
    "comment": {"comment": "with milk"},
    "payer data": {"payer_data": {"name": "Ann"}},
    "idempotency key": {"idempotency_key": "order-1"},
}

UNLISTED: dict[str, dict[str, Any]] = {"lazy": {"issue": Issue.LAZY}, "held": {"hold": True}}


@contextmanager
def shop(directory: Path, **terms: Any) -> Iterator[Bench]:
    with closing(Bench(directory, **terms)) as bench:
        yield bench


def issue(bench: Bench, **words: Any) -> list[int]:
    """How each commit was made, up to when the caller has his invoice."""
    seen = commit_levels(bench.store)
    issued = bench.issuing.issue("coffee", Request(amount_msat=1000, **words)).result(DEADLINE_S)
    seen = list(seen)
    assert issued.status == "issued"
    return seen


def test_what_the_node_lists_waits_for_no_other_disk(tmp_path: Path) -> None:
    """Label, amount, description and times are the node's own: a sidecar gets them back from there."""
    with shop(tmp_path) as bench:
        assert issue(bench) == [READABLE, READABLE]


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_words_that_the_node_does_not_know_are_on_disk_before_the_answer(tmp_path: Path, words: dict[str, Any]) -> None:
    """They came with the request, and only the sidecar has them."""
    with shop(tmp_path) as bench:
        assert issue(bench, **words) == [READABLE, ON_DISK]


@pytest.mark.parametrize("terms", UNLISTED.values(), ids=UNLISTED)
def test_string_that_the_node_does_not_know_is_on_disk_before_the_answer(tmp_path: Path, terms: dict[str, Any]) -> None:
    """Nobody else could tell that it was handed out."""
    with shop(tmp_path, **terms) as bench:
        assert issue(bench) == [READABLE, ON_DISK]


@pytest.mark.parametrize("terms", [{}, *UNLISTED.values()], ids=["eager", *UNLISTED])
def test_index_is_taken_before_the_node_is_asked(tmp_path: Path, terms: dict[str, Any]) -> None:
    """Every process that looks sees the row: however this one ends, the index stays taken."""
    seen: list[tuple[int, str]] = []

    def look() -> None:
        with closing(sqlite3.connect(tmp_path / "paycodes.sqlite3")) as other:
            seen.extend(other.execute("SELECT idx, status FROM invoices"))

    with shop(tmp_path, **terms) as bench:
        bench.node.before = look
        issue(bench)

    assert seen == [(1, "reserved")]


def test_index_of_an_earlier_life_that_another_records_first(tmp_path: Path) -> None:
    """The node has it paid, and whoever was told of that wrote it down meanwhile: the caller gets the next index."""
    with shop(tmp_path) as bench:
        slot = Slot(bench.paycode.paycode_id, 1)
        fact = paid_invoice(slot, bench.payment_hash(1))
        made, books = bench.node.begin_invoice, bench.issuing._books

        def begin_invoice(wanted: Wanted) -> Future[Issued]:
            return (
                made(wanted)
                if wanted.label != slot.label
                else failed(NodeRefused("invoice", INVOICE_LABEL_ALREADY_EXISTS, "taken"))
            )

        def invoice_by_label(_: str) -> NodeInvoice:
            books.settle_with_node(slot)
            return fact

        bench.node.taken.add(bench.payment_hash(1))
        node: Any = bench.node
        node.begin_invoice, node.invoice_by_label, node.begin_look = (
            begin_invoice,
            invoice_by_label,
            lambda _: done(fact),
        )
        issued = bench.issuing.issue("coffee", Request(amount_msat=1000)).result(DEADLINE_S)
        before = bench.issuing.by_hash(fact.payment_hash)

    assert (before.index, before.status, issued.index, issued.status) == (1, "paid", 2, "issued")


def paid_invoice(slot: Slot, payment_hash: str) -> NodeInvoice:
    return NodeInvoice(
        label=slot.label,
        payment_hash=payment_hash,
        status="paid",
        amount_msat=1000,
        received_msat=1000,
        bolt11=None,
        expires_at=NOW + 600,
        paid_at=NOW,
        created_index=1,
        updated_index=1,
        description="coffee",
    )


def done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
