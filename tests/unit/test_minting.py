"""`createinvoice` with a hash that the node has would end it: only the node's fresh word lets an invoice be made so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backend import Datastore
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import Invoice, Paycode
from cln_paycodes.core.seal import Seal
from cln_paycodes.node.port import InvoiceTraits, Issued, Wanted
from cln_paycodes.services.minting import Draft, Mint
from cln_paycodes.services.registry import Registry
from cln_paycodes.services.signing import Signer
from cln_paycodes.store import paycodes
from cln_paycodes.store.store import Store
from samples import NOW, add_invoice, definition_of

SEED = bytes(32)


class Node(Datastore):
    """Answers at once, or when the test says so; lists what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.taken: set[str] = set()
        self.is_slow = False
        self.waiting: list[tuple[Future[bool], str]] = []

    def begin_search(self, payment_hash: str) -> Future[bool]:
        self.asked.append("search")
        future: Future[bool] = Future()
        self.waiting.append((future, payment_hash))
        if not self.is_slow:
            self.answer()
        return future

    def answer(self) -> None:
        for future, payment_hash in self.waiting:
            future.set_result(payment_hash in self.taken)
        self.waiting.clear()

    def begin_creation(self, _: str, **__: object) -> Future[Issued]:
        return self._make("createinvoice")

    def begin_invoice(self, _: Wanted) -> Future[Issued]:
        return self._make("invoice")

    def _make(self, way: str) -> Future[Issued]:
        self.asked.append(way)
        future: Future[Issued] = Future()
        future.set_result(Issued(bolt11=way, payment_hash="", expires_at=NOW, created_index=1))
        return future

    def invoice_traits(self) -> InvoiceTraits:
        return InvoiceTraits(currency="bcrt", features=1 << 9, final_cltv_blocks=10, adds_more=False)

    def incoming_channels(self) -> list[Any]:
        return []


class Bench:
    """A mint that is ready for the quick way, and a code."""

    def __init__(self, store: Store) -> None:
        self.node = Node()
        registry = Registry(
            store,
            self.node,  # type: ignore[arg-type]  # it has what is called here
            seed=SEED,
            seal=Seal(SEED),
            clock=lambda: NOW,
            randomness=bytes,
            skipped=lambda: None,
        )
        signer = Signer(self.node, clock=lambda: NOW, chance=lambda: 0.5)  # type: ignore[arg-type]
        signer.prepare()
        self.mint = Mint(
            self.node,  # type: ignore[arg-type]
            registry,
            signer,
            clock=lambda: NOW,
            submit=lambda *_: None,
        )
        self._store = store
        self._root = RootKey.derive(SEED, 0)
        definition = definition_of("coffee", paycode_id=self._root.paycode_id, number=0)
        store.write(lambda tx: paycodes.insert(tx, definition, next_index=1, mirrored=True))
        self.paycode: Paycode = registry.find("coffee")

    def row(self, index: int) -> Invoice:
        payment_hash = self._root.invoice(index).payment_hash.hex()
        slot = Slot(self._root.paycode_id, index)
        return self._store.write(lambda tx: add_invoice(tx, slot, payment_hash=payment_hash, description="coffee"))

    def draft(self, row: Invoice) -> Draft:
        draft = self.mint.begin_draft(self.paycode, row)
        assert draft is not None
        return draft


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    store = Store(tmp_path / "paycodes.sqlite3")
    yield Bench(store)
    store.close()


def test_free_hash_is_made_the_quick_way(bench: Bench) -> None:
    """The node is asked once, and its word is enough."""
    row = bench.row(1)
    made = bench.mint.begin(row, bench.draft(row))

    assert made.result(0).bolt11 == "createinvoice"
    assert bench.node.asked == ["search", "createinvoice"]


def test_hash_that_the_node_has_is_left_to_its_own_command(bench: Bench) -> None:
    """`invoice` refuses it, where `createinvoice` would end the node."""
    row = bench.row(1)
    bench.node.taken.add(row.payment_hash)
    bench.mint.begin(row, bench.draft(row))

    assert bench.node.asked == ["search", "invoice"]


def test_old_word_of_the_node_is_asked_for_again(bench: Bench) -> None:
    """The row took long to get to the disk, and meanwhile someone used the hash."""
    row = bench.row(1)
    draft = replace(bench.draft(row), asked_at=time.monotonic() - 60)
    bench.node.taken.add(row.payment_hash)
    bench.mint.begin(row, draft)

    assert bench.node.asked == ["search", "search", "invoice"]


def test_word_that_is_still_on_its_way_is_waited_for(bench: Bench) -> None:
    """Nothing is made before it is here, and however long it takes, it is fresh when it comes."""
    bench.node.is_slow = True
    row = bench.row(1)
    made = bench.mint.begin(row, replace(bench.draft(row), asked_at=time.monotonic() - 60))
    asked_before = list(bench.node.asked)
    bench.node.answer()

    assert asked_before == ["search"]
    assert made.result(0).bolt11 == "createinvoice"


def test_word_about_another_hash_counts_for_nothing(bench: Bench) -> None:
    """A draft that belongs to another index is never used."""
    bench.mint.begin(bench.row(2), bench.draft(bench.row(1)))

    assert bench.node.asked == ["search", "invoice"]


def test_imported_code_is_never_made_the_quick_way(bench: Bench) -> None:
    """Its key is known elsewhere: no word of the node is fresh enough."""
    imported = replace(bench.paycode, sealed_root="sealed")

    assert bench.mint.begin_draft(imported, bench.row(1)) is None
    assert bench.node.asked == []
