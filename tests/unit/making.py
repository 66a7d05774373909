"""A node that makes invoices at once, or when the test says so, and what issues them there, on a real sidecar."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from backend import Datastore
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import Invoice, Paycode
from cln_paycodes.node.port import InvoiceTraits, Issued, Wanted
from cln_paycodes.services.issuing import Issuing
from cln_paycodes.services.minting import Mint
from cln_paycodes.services.signing import Signer
from cln_paycodes.store import paycodes
from cln_paycodes.store.store import Store
from samples import NOW, add_invoice, definition_of
from wiring import SEED, books_on, registry_on


class Node(Datastore):
    """Answers at once, or when the test says so; lists what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.taken: set[str] = set()
        self.is_slow = False
        self.waiting: list[tuple[Future[bool], str]] = []
        #: called before an invoice is made or signed
        self.before = lambda: None

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
        self.before()
        self.asked.append(way)
        future: Future[Issued] = Future()
        future.set_result(Issued(bolt11=string_by(way), payment_hash="", expires_at=NOW, created_index=1))
        return future

    def begin_signature(self, _: str) -> Future[str]:
        self.before()
        self.asked.append("signinvoice")
        future: Future[str] = Future()
        future.set_result(string_by("signinvoice"))
        return future

    def invoice_traits(self) -> InvoiceTraits:
        return InvoiceTraits(currency="bcrt", features=1 << 9, final_cltv_blocks=10, adds_more=False)

    def incoming_channels(self) -> list[Any]:
        return []


def string_by(command: str) -> str:
    """What the node gives as an invoice: it has a time, and no more."""
    return f"{command}1pvjluez"


class Bench:
    """Issuing, with a mint that is ready for the quick way, and a code."""

    def __init__(self, directory: Path, **terms: Any) -> None:
        self.node = Node()
        self.store = Store(directory / "paycodes.sqlite3")
        node: Any = self.node  # it has what is called here
        registry = registry_on(self.store, node)
        registry.settle_indexes(all_seen=True)
        signer = Signer(node, clock=lambda: NOW, chance=lambda: 0.5)
        signer.prepare()
        self.mint = Mint(node, registry, signer, clock=lambda: NOW, submit=lambda *_: None)
        self._root = RootKey.derive(SEED, 0)
        definition = definition_of("coffee", paycode_id=self._root.paycode_id, number=0, reserved_index=100, **terms)
        self.store.write(lambda tx: paycodes.insert(tx, definition, next_index=1, mirrored=True))
        self.paycode: Paycode = registry.find("coffee")
        books = books_on(self.store, node, registry)
        self.issuing = Issuing(self.store, node, registry, books, self.mint, clock=lambda: NOW)

    def close(self) -> None:
        self.issuing.close()
        self.store.close()

    def row(self, index: int, **fields: Any) -> Invoice:
        """An index that was taken just now."""
        slot = Slot(self._root.paycode_id, index)
        given = {"payment_hash": self.payment_hash(index), "description": "coffee", **fields}
        return self.store.write(lambda tx: add_invoice(tx, slot, **given))

    def payment_hash(self, index: int) -> str:
        return self._root.payment_hash(index)
