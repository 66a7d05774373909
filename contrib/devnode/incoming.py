"""Incoming payments: devnode plays the payer, the channel, and lightningd's way from HTLC to paid invoice.

The order is lightningd's: ``htlc_accepted`` for every part, the checks of ``invoice_check_payment``, the set
of parts, ``invoice_payment`` once the set is complete, the commit, the notification. An HTLC that was offered
stays offered over a crash, and the whole way is walked again at the next start.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from . import onion
from .errors import NodeAbort
from .faults import SETTLE, crash
from .htlcs import CHANNEL, FAILURE_CODES, MPP_TIMEOUT, UNKNOWN_DETAILS, Htlc, Htlcs
from .invoices import Row

if TYPE_CHECKING:
    from .node import Node

#: lightningd fails the parts of a set that is not complete by then (``htlc_set.c``).
_SET_TIMEOUT_S = 70.0


@dataclass
class _Set:
    """The parts of one payment that have arrived."""

    total_msat: int
    parts: list[Htlc] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    #: The invoice_payment hook has been called and has not answered.
    in_hook: bool = False

    @property
    def so_far_msat(self) -> int:
        return sum(part.amount_msat for part in self.parts)


class Incoming:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._htlcs = Htlcs(node.store)
        self._sets: dict[str, _Set] = {}
        #: The plugin whose htlc_accepted hook has not answered yet, by the number of the HTLC.
        self._waiting_for: dict[int, str] = {}
        #: Woken whenever an HTLC reaches its end.
        self._ended = asyncio.Condition()

    def offer(
        self, payment_id: str, payment_hash: str, amounts: list[int], total: int, secret: str, expiry: int
    ) -> None:
        """Have the parts of a payment arrive, unless this very payment has before."""
        if self._htlcs.of_payment(payment_id):
            return
        for htlc in self._htlcs.offer(payment_id, payment_hash, amounts, total, secret, expiry):
            self._node.spawn(self._accept(htlc))

    def replay(self) -> None:
        """At start: everything that is still offered goes through the hooks again."""
        for htlc in self._htlcs.offered():
            self._node.spawn(self._accept(htlc))

    def pending(self) -> list[tuple[Htlc, str | None]]:
        """What has not been settled or failed, and the plugin that is asked about it."""
        return [(htlc, self._waiting_for.get(htlc.id)) for htlc in self._htlcs.offered()]

    def received_msat(self) -> int:
        """All that was ever settled."""
        return self._htlcs.settled_msat()

    async def ended(self, payment_id: str) -> list[Htlc]:
        """The parts of a payment, once none is pending."""
        async with self._ended:
            while True:
                parts = self._htlcs.of_payment(payment_id)
                if parts and all(part.state != "offered" for part in parts):
                    return parts
                await self._ended.wait()

    def on_block(self) -> None:
        """The far side closes the channel one block after an HTLC expired; later answers settle nothing."""
        for htlc in self._htlcs.offered():
            if htlc.cltv_expiry < self._node.blockheight:
                self._node.journal.unusual(f"Peer permanent failure: htlc {htlc.id} expired at {htlc.cltv_expiry}")
                self._sets.pop(htlc.payment_hash, None)
                self._fail([htlc], "channel force-closed by the peer")

    async def _accept(self, htlc: Htlc) -> None:
        secret, total_msat = htlc.payment_secret, htlc.total_msat
        asked = self._payload(htlc)
        answers = await self._node.plugins.call_hook("htlc_accepted", asked, partial(self._waits_for, htlc.id))
        self._waiting_for.pop(htlc.id, None)
        for answer in answers:
            if "payload" in answer:
                try:
                    secret, total_msat = onion.payment_data(_hex(answer, "payload"))
                except onion.BadPayload:
                    secret = ""
            if answer["result"] != "continue":
                self._apply(htlc, answer)
                return
        if self._htlcs.is_offered(htlc.id):
            await self._receive(htlc, secret, total_msat)

    def _waits_for(self, number: int, plugin: str) -> None:
        self._waiting_for[number] = plugin

    def _payload(self, htlc: Htlc) -> dict[str, Any]:
        payload = onion.final_payload(htlc.amount_msat, htlc.cltv_expiry, htlc.payment_secret, htlc.total_msat)
        return {
            "peer_id": self._node.payer_id,
            "onion": {
                "payload": payload.hex(),
                "type": "tlv",
                "forward_msat": htlc.amount_msat,
                "outgoing_cltv_value": htlc.cltv_expiry,
                "total_msat": htlc.total_msat,
                "payment_secret": htlc.payment_secret,
                "next_onion": bytes(1366).hex(),
                "shared_secret": hashlib.sha256(f"{htlc.payment_id}/{htlc.id}".encode()).hexdigest(),
            },
            "htlc": {
                "short_channel_id": CHANNEL,
                "id": htlc.id,
                "amount_msat": htlc.amount_msat,
                "cltv_expiry": htlc.cltv_expiry,
                "cltv_expiry_relative": htlc.cltv_expiry - self._node.blockheight,
                "payment_hash": htlc.payment_hash,
            },
        }

    def _apply(self, htlc: Htlc, answer: dict[str, Any]) -> None:
        """A hook's ``fail`` or ``resolve``; anything malformed aborts lightningd."""
        if answer["result"] == "fail":
            if "failure_onion" in answer:
                _hex(answer, "failure_onion")
                failure = "failed by a plugin's onion"
            else:
                message = _hex(answer, "failure_message")
                code = int.from_bytes(message[:2], "big")
                failure = FAILURE_CODES.get(code, f"WIRE_UNKNOWN_{code:04x}")
            self._fail([htlc], failure)
        elif answer["result"] == "resolve":
            preimage = _hex(answer, "payment_key")
            if len(preimage) != 32:
                raise NodeAbort(f"Plugin specified an invalid 'payment_key': {answer}")
            if hashlib.sha256(preimage).hexdigest() == htlc.payment_hash:
                with self._node.store.transaction():
                    self._settle([htlc], preimage.hex())
            else:
                self._fail([htlc], UNKNOWN_DETAILS)
        else:
            raise NodeAbort(f"Plugin responded with an unknown result to the htlc_accepted hook: {answer['result']}")

    async def _receive(self, htlc: Htlc, secret: str, total_msat: int) -> None:
        """``htlc_set_add``: check the part against the invoice, and go on once the set is complete."""
        if self._node.blockheight + self._node.cltv.final > htlc.cltv_expiry:
            self._node.journal.debug(f"Expiry cltv too soon {htlc.cltv_expiry}")
            self._fail([htlc], UNKNOWN_DETAILS)
            return
        checked = self._node.invoices.check_payment(htlc.payment_hash, total_msat, secret)
        if isinstance(checked, str):
            self._node.journal.debug(f"payment failed: {checked}")
            self._fail([htlc], UNKNOWN_DETAILS)
            return
        parts = self._sets.get(htlc.payment_hash)
        if parts is None:
            parts = self._sets[htlc.payment_hash] = _Set(total_msat)
            parts.timer = asyncio.get_running_loop().call_later(_SET_TIMEOUT_S, self._time_out, htlc.payment_hash)
        parts.parts.append(htlc)
        if parts.total_msat != total_msat:
            self._fail_set(htlc.payment_hash, "WIRE_FINAL_INCORRECT_HTLC_AMOUNT")
        elif parts.in_hook:
            # htlc_set.c frees the timer of a complete set twice.
            raise NodeAbort(f"another part for {htlc.payment_hash} while its invoice_payment hook is pending")
        elif parts.so_far_msat >= total_msat:
            if parts.timer is not None:
                parts.timer.cancel()
            parts.in_hook = True
            await self._pay(parts, checked)

    async def _pay(self, parts: _Set, invoice: Row) -> None:
        """``invoice_try_pay``: ask the hook, then settle if the invoice is still there and unpaid."""
        received_msat = parts.so_far_msat
        payment = {"label": invoice["label"], "preimage": invoice["preimage"], "msat": received_msat}
        answers = await self._node.plugins.call_hook("invoice_payment", {"payment": payment})
        if self._sets.get(invoice["payment_hash"]) is not parts:
            self._node.journal.debug(f"invoice '{invoice['label']}' paying htlc_in has gone!")
            return
        for answer in answers:
            if answer["result"] == "reject":
                self._fail_set(invoice["payment_hash"], UNKNOWN_DETAILS)
                return
            if answer["result"] != "continue":
                raise NodeAbort(f"Invalid invoice_payment hook result: {answer}")
        fault = self._node.faults.take(SETTLE)
        if fault is not None and fault.kind == "crash_before":
            crash()
        current = self._node.invoices.by_label(invoice["label"])
        with self._node.store.transaction():
            paid = current is not None and self._node.invoices.resolve(current, received_msat)
            if paid:
                self._settle(parts.parts, invoice["preimage"])
        if not paid:
            self._fail_set(invoice["payment_hash"], UNKNOWN_DETAILS)
            return
        self._sets.pop(invoice["payment_hash"], None)
        self._node.journal.info(
            f"Resolved invoice '{invoice['label']}' with amount {received_msat}msat in {len(parts.parts)} htlcs"
        )
        if fault is not None and fault.kind == "crash_after":
            crash()
        if fault is None:
            details = {"msat": received_msat, "preimage": invoice["preimage"], "label": invoice["label"]}
            self._node.plugins.notify("invoice_payment", {"invoice_payment": details})

    def _time_out(self, payment_hash: str) -> None:
        self._fail_set(payment_hash, MPP_TIMEOUT)

    def _fail_set(self, payment_hash: str, failure: str) -> None:
        parts = self._sets.pop(payment_hash, None)
        if parts is not None:
            if parts.timer is not None:
                parts.timer.cancel()
            self._fail(parts.parts, failure)

    def _fail(self, htlcs: list[Htlc], failure: str) -> None:
        with self._node.store.transaction():
            for htlc in htlcs:
                if self._htlcs.is_offered(htlc.id):
                    self._htlcs.fail(htlc.id, failure)
            self._node.store.after_commit(self._wake)

    def _settle(self, htlcs: list[Htlc], preimage: str) -> None:
        for htlc in htlcs:
            self._htlcs.settle(htlc.id, preimage)
        self._node.store.after_commit(self._wake)

    def _wake(self) -> None:
        self._node.spawn(self._wake_all())

    async def _wake_all(self) -> None:
        async with self._ended:
            self._ended.notify_all()


def new_payment_id() -> str:
    return os.urandom(8).hex()


def _hex(answer: dict[str, Any], name: str) -> bytes:
    try:
        return bytes.fromhex(answer[name])
    except (KeyError, ValueError, TypeError):
        raise NodeAbort(f"Bad {name} for htlc_accepted hook: {answer}") from None
