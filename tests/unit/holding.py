"""Held payments on a real sidecar and engine; the node is a stand-in that takes HTLCs as lightningd does."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from backend import Datastore, eventually
from cln_paycodes.core.actions import ActionKind
from cln_paycodes.core.holds import FINAL_CLTV_BLOCKS
from cln_paycodes.core.htlcs import Htlc, IncomingHtlc, Key
from cln_paycodes.core.keys import RootKey
from cln_paycodes.core.labels import Slot
from cln_paycodes.core.records import Hold, Invoice, NodeInvoice
from cln_paycodes.core.states import InvoiceStatus
from cln_paycodes.errors import NodeRefused
from cln_paycodes.node.port import Credit, Issued, Wanted
from cln_paycodes.services.actions import _RUN_TWICE, Engine
from cln_paycodes.services.decisions import Decisions
from cln_paycodes.services.holds import Holds, Part
from cln_paycodes.services.minting import Mint
from cln_paycodes.services.registration import Registration
from cln_paycodes.services.waiting import Waiters
from cln_paycodes.store import actions, invoices, outbox, paycodes
from cln_paycodes.store.store import Store
from samples import NOW, definition_of
from wiring import books_on, registry_on

AMOUNT = 40_000
TIP = 1000
S = InvoiceStatus
UNKNOWN_DETAILS = "400f"


class Timer:
    """Keeps what is to be done later until the test says that its time has come."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.waiting.append((delay_s, action))

    def pass_time(self, delay_s: float) -> None:
        """Everything with just this delay is due."""
        due = [action for delay, action in self.waiting if delay == delay_s]
        self.waiting = [entry for entry in self.waiting if entry[0] != delay_s]
        for action in due:
            action()


class Node(Datastore):
    """Settles HTLCs that go on to it if it knows their invoice and all are there, else fails them."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: dict[str, NodeInvoice] = {}
        self.htlcs: dict[Key, Htlc] = {}
        #: what became of each HTLC: `settled`, or the failure's code
        self.ends: dict[Key, str] = {}
        #: what its bookkeeper knows
        self.credits: dict[str, Credit] = {}
        #: another plugin refuses what it is to settle
        self.refuses = False
        #: None: it does not know
        self.tip: int | None = TIP

    def cltv_delta(self) -> int:
        return 34

    def cltv_final(self) -> int:
        return 18

    def block_height(self) -> int:
        return TIP

    def tip_height(self) -> int | None:
        return self.tip

    def incoming_htlcs(self) -> list[IncomingHtlc]:
        return [
            IncomingHtlc(key=key, payment_hash=h.payment_hash, amount_msat=h.amount_msat, is_undecided=True)
            for key, h in self.htlcs.items()
        ]

    def invoice_by_label(self, label: str) -> NodeInvoice | None:
        return self.listed.get(label)

    def begin_look(self, label: str) -> Future[NodeInvoice | None]:
        answer: Future[NodeInvoice | None] = Future()
        answer.set_result(self.invoice_by_label(label))
        return answer

    def begin_invoice(self, wanted: Wanted) -> Future[Issued]:
        answer: Future[Issued] = Future()
        if wanted.label in self.listed:
            answer.set_exception(NodeRefused("invoice", 900, "it is there"))
            return answer
        payment_hash = _hash_of(wanted.preimage)
        self.listed[wanted.label] = NodeInvoice(
            label=wanted.label,
            payment_hash=payment_hash,
            status="unpaid",
            amount_msat=wanted.amount_msat,
            received_msat=None,
            bolt11=None,
            expires_at=NOW + wanted.expiry_s,
            paid_at=None,
            created_index=1,
            updated_index=None,
            description=wanted.description,
        )
        answer.set_result(Issued(bolt11="lnbc1", payment_hash=payment_hash, expires_at=NOW, created_index=1))
        return answer

    def delete_unpaid_invoice(self, label: str) -> None:
        if self.listed[label].status != "unpaid":
            raise NodeRefused("delinvoice", 906, f"it is {self.listed[label].status}")
        del self.listed[label]

    def bookkeeper_credit(self, payment_hash: str) -> Credit | None:
        return self.credits.get(payment_hash)

    def go_on(self, key: Key) -> None:
        """The hook's `continue`; so does a plugin's death."""
        htlc = self.htlcs.pop(key)
        known = next((i for i in self.listed.values() if i.payment_hash == htlc.payment_hash), None)
        if known is None or known.status != "unpaid" or self.refuses:
            self.ends.setdefault(key, UNKNOWN_DETAILS)
            return
        self.ends[key] = "settled"
        if all(other.payment_hash != htlc.payment_hash for other in self.htlcs.values()):
            self.listed[known.label] = known._replace(status="paid", received_msat=htlc.total_msat, paid_at=NOW)
            self.credits[htlc.payment_hash] = Credit(amount_msat=htlc.total_msat, at=NOW)

    def answer(self, key: Key, answer: Mapping[str, str]) -> None:
        if answer["result"] == "continue":
            self.go_on(key)
        else:
            del self.htlcs[key]
            self.ends[key] = answer["failure_message"][:4]


def _hash_of(preimage: bytes) -> str:
    return hashlib.sha256(preimage).hexdigest()


class Plugin:
    """One life of what holds payments; the next one has the same sidecar and the same node."""

    def __init__(self, directory: Path, node: Node) -> None:
        self.node = node
        self.timer = Timer()
        self.store = Store(directory / "paycodes.sqlite3")
        registry = registry_on(self.store, node)
        self.books = books_on(self.store, node, registry, changed=lambda invoice: self.waiters.changed(invoice))
        self.waiters = Waiters(self.books.by_slot, self.timer)  # type: ignore[arg-type]
        self.differences: list[str] = []
        self.engine = Engine(
            self.store, clock=lambda: NOW, chance=random.random, run_twice=_RUN_TWICE, differ=self.differences.append
        )
        self.holds = Holds(
            self.store,
            node,  # type: ignore[arg-type]
            self.books,
            self.timer,  # type: ignore[arg-type]
            node_id="02" * 33,
            clock=lambda: NOW,
            told=lambda: None,
            stirred=self.engine.wake,
            submit=lambda job, *arguments: job(*arguments),
        )
        mint = Mint(node, registry, None, clock=lambda: NOW, submit=lambda *_: None)  # type: ignore[arg-type]
        self.decisions = Decisions(
            self.store,
            node,  # type: ignore[arg-type]
            self.books,
            self.holds,
            Registration(self.store, mint, clock=lambda: NOW),
            self.engine,
            self.waiters,
            self.timer,  # type: ignore[arg-type]
            clock=lambda: NOW,
            submit=lambda job, *arguments: job(*arguments),
        )

    def close(self) -> None:
        self.engine.stop()
        for thread in self.engine._threads:
            thread.join()
        self.store.close()
        assert self.differences == []


class Shop:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.node = Node()
        self.plugin = Plugin(directory, self.node)
        self.root = RootKey.derive(bytes(32), 0)
        self.plugin.store.write(
            lambda tx: paycodes.insert(
                tx,
                definition_of("held", paycode_id=self.root.paycode_id, number=0, hold=True),
                next_index=2,
                mirrored=True,
            )
        )
        self.row = self.plugin.store.write(self._insert)

    def _insert(self, tx: Any) -> Invoice:
        return invoices.insert(
            tx,
            Slot(self.root.paycode_id, 1),
            payment_hash=self.root.invoice(1).payment_hash.hex(),
            status=S.ISSUED,
            amount_msat=AMOUNT,
            created_at=NOW,
            expires_at=NOW + 3600,
            moved_at=NOW,
            hold=True,
            registered=False,
        )

    def restart(self, *, with_node: bool) -> None:
        """The plugin dies and is there again; the node goes on with its HTLCs, unless it dies too and offers them."""
        parts = list(self.node.htlcs)
        self.plugin.close()
        if not with_node:
            for key in parts:
                self.node.go_on(key)
        self.plugin = Plugin(self.directory, self.node)

    def offer(self, number: int, amount_msat: int, *, total_msat: int = AMOUNT, blocks: int = FINAL_CLTV_BLOCKS) -> Key:
        """One HTLC towards us, as the hook tells of it."""
        key = ("1x1x1", number)
        self.node.htlcs[key] = Htlc(
            key=key,
            payment_hash=self.row.payment_hash,
            amount_msat=amount_msat,
            cltv_expiry=TIP + blocks,
            blocks_left=blocks,
            total_msat=total_msat,
            payment_secret="",
            has_metadata=False,
            is_skimmed=False,
        )
        self.ask(key)
        return key

    def ask(self, key: Key) -> None:
        node = self.node  # of the process that is asked: a dead one answers nothing
        answer = self.plugin.holds.take(Part(node.htlcs[key], lambda said: node.answer(key, said)), self.row)
        if answer is not None:
            node.answer(key, answer)

    def ends(self) -> list[str]:
        return [self.node.ends.get(key, "held") for key in sorted({*self.node.ends, *self.node.htlcs})]

    def status(self) -> InvoiceStatus:
        row = self.plugin.books.by_slot(self.row.slot)
        assert row is not None
        return row.status

    def told(self) -> list[str]:
        return [str(event.type) for event in self.plugin.store.read(lambda sql: outbox.after(sql, 0, limit=100))]

    def hold(self) -> Hold:
        return self.plugin.holds.find(self.row.payment_hash)

    def decide(self, kind: ActionKind) -> None:
        """What the operator says, without waiting for what comes of it."""
        decisions = self.plugin.decisions
        if kind is ActionKind.SETTLE:
            decide = partial(decisions._decide_to_settle, hold=self.hold())
        else:
            decide = partial(decisions._decide_to_cancel, payment_hash=self.row.payment_hash, reason="the operator")
        self.plugin.store.write(decide)

    def finish(self) -> None:
        """Drive what was decided to its end."""
        self.plugin.engine.start()
        eventually(lambda: not self.plugin.store.read(actions.every_id))
