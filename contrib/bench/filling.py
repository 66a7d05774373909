"""Filling a node with the invoices of paycodes, faster than `invoice` would, while the plugin is away.

`createinvoice` signs strings that are made here; `batching` makes it several times faster: the node is not killed here.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cln_paycodes.core.bolt11 import CURRENCIES, UnsignedInvoice, encode, features_from
from cln_paycodes.core.keys import SEED_LABEL, InvoiceKeys, RootKey, payment_secret_of
from cln_paycodes.core.labels import Slot
from network import Node

from .load import load
from .stage import DESCRIPTION, PAID_MSAT, Stage

PIPELINED = 128
LONG_S, SHORT_S = 7 * 86_400, 1
PAYERS = 8

#: lightningd's default `cltv-final`.
_FINAL_BLOCKS = 18


class Filling:
    """Invoices of a few codes, more and more of them."""

    def __init__(self, stage: Stage, codes: int = 5) -> None:
        self._stage = stage
        merchant = stage.merchant
        for _ in range(codes):
            stage.paycode()
        made = {code["paycode_id"] for code in merchant.call("listpaycodes")["paycodes"]}
        seed = bytes.fromhex(merchant.call("makesecret", string=SEED_LABEL)["secret"])
        roots = (RootKey.derive(seed, number) for number in range(len(made)))
        self._roots = [root for root in roots if root.paycode_id in made][-codes:]
        self._features = features_from(merchant.call("getinfo")["our_features"]["invoice"])
        self._made = 0

    def fill(self, count: int, expired: int = 0, paid: int = 0) -> None:
        """Until there are so many, the first expired, the last paid; the plugin knows them when this returns."""
        self._stage.without_plugin()
        strings = pipeline(self._stage.merchant, self._requests(count, expired))
        self._made = count
        if paid:
            load(replace(self._stage.payments(strings[-paid:], PAYERS), limit_s=120.0))
        self._stage.with_plugin()

    def _requests(self, count: int, expired: int) -> Iterator[dict[str, Any]]:
        for number in range(self._made, count):
            root = self._roots[number % len(self._roots)]
            index = number // len(self._roots) + 1
            invoice = root.invoice(index)
            string = self._string(invoice, SHORT_S if number - self._made < expired else LONG_S)
            label = Slot(root.paycode_id, index).label
            yield {"invstring": string, "label": label, "preimage": invoice.preimage.hex()}

    def _string(self, invoice: InvoiceKeys, expiry_s: int) -> str:
        return encode(
            UnsignedInvoice(
                currency=CURRENCIES["regtest"],
                amount_msat=PAID_MSAT,
                timestamp=int(time.time()),
                payment_hash=invoice.payment_hash,
                payment_secret=payment_secret_of(invoice.preimage),
                description=DESCRIPTION,
                expiry_s=expiry_s,
                min_final_cltv_expiry_delta=_FINAL_BLOCKS,
                features=self._features,
            )
        )


def pipeline(merchant: Node, requests: Iterator[dict[str, Any]]) -> list[str]:
    """Many `createinvoice` calls on one socket; the strings of the last ones."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(merchant.rpc_path))
    sock.sendall(b'{"jsonrpc": "2.0", "id": 0, "method": "batching", "params": {"enable": true}}')
    room = threading.Semaphore(PIPELINED)
    strings: list[str] = []
    failed: list[bytes] = []
    sent = 1
    all_sent = threading.Event()

    def read() -> None:
        buffer, received = b"", 0
        while not (all_sent.is_set() and received == sent):
            buffer += sock.recv(1 << 18)
            *answers, buffer = buffer.split(b"\n\n")
            for answer in answers:
                result = json.loads(answer).get("result")
                failed.extend([answer] if result is None else [])
                strings.append((result or {}).get("bolt11", ""))
                del strings[: -4 * PIPELINED]
                received += 1
                room.release()

    reader = threading.Thread(target=read)
    reader.start()
    for request in requests:
        room.acquire()
        sent += 1
        sock.sendall(json.dumps({"jsonrpc": "2.0", "id": sent, "method": "createinvoice", "params": request}).encode())
    # One more, so that the reader is woken after the last.
    sent += 1
    all_sent.set()
    sock.sendall(b'{"jsonrpc": "2.0", "id": 0, "method": "batching", "params": {"enable": false}}')
    reader.join()
    sock.close()
    if failed:
        raise SystemExit(f"createinvoice failed {len(failed)} times: {failed[0][:500]!r}")
    return [string for string in strings if string]
