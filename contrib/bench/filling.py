"""Filling a node with the invoices of paycodes, faster than `invoice` would, while the plugin is away.

One string of each kind comes from the node; the others are that string with another payment hash and secret, which
`createinvoice` signs anew. `batching` makes it several times faster: the node is not killed here.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

from cln_paycodes.core.keys import SEED_LABEL, RootKey
from cln_paycodes.core.labels import Slot
from network import Node

from .stage import DESCRIPTION, PAID_MSAT, Stage, fresh

PIPELINED = 128
LONG_S, SHORT_S = 7 * 86_400, 1

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
#: 5-bit words of the timestamp, before the tagged fields of BOLT 11, and of signature and checksum, after them.
_TIMESTAMP, _SIGNATURE, _CHECKSUM = 7, 104, 6
_PAYMENT_HASH, _PAYMENT_SECRET = 1, 16


class Template:
    """A BOLT 11 string to make others from."""

    def __init__(self, bolt11: str) -> None:
        self._prefix, _, data = bolt11.rpartition("1")
        self._words = [_VALUES[character] for character in data[:-_CHECKSUM]]
        self._fields = dict(self._find_fields())
        self._start = min(self._fields.values())
        high = [ord(character) >> 5 for character in self._prefix]
        low = [ord(character) & 31 for character in self._prefix]
        self._state = _polymod(1, [*high, 0, *low, *self._words[: self._start]])

    def _find_fields(self) -> Iterator[tuple[int, int]]:
        position = _TIMESTAMP
        while position < len(self._words) - _SIGNATURE:
            kind, length = self._words[position], self._words[position + 1] * 32 + self._words[position + 2]
            if kind in (_PAYMENT_HASH, _PAYMENT_SECRET):
                yield kind, position + 3
            position += 3 + length

    def filled(self, preimage: bytes) -> str:
        """For this preimage; the payment secret is the one that the node expects, the signature is anyone's."""
        secret = hashlib.sha256(bytes([preimage[0] ^ 1]) + preimage[1:]).digest()
        values = {_PAYMENT_HASH: hashlib.sha256(preimage).digest(), _PAYMENT_SECRET: secret}
        words = self._words.copy()
        for kind, start in self._fields.items():
            words[start : start + 52] = _words(values[kind])
        rest = _polymod(self._state, words[self._start :] + [0] * _CHECKSUM) ^ 1
        words += [(rest >> 5 * (_CHECKSUM - 1 - place)) & 31 for place in range(_CHECKSUM)]
        return f"{self._prefix}1{''.join(map(_CHARSET.__getitem__, words))}"


def _words(value: bytes) -> list[int]:
    number = int.from_bytes(value, "big") << 4
    return [(number >> 5 * (51 - place)) & 31 for place in range(52)]


def _polymod(state: int, words: list[int]) -> int:
    for word in words:
        top, state = state >> 25, (state & 0x1FFFFFF) << 5 ^ word
        for bit in range(5):
            if top >> bit & 1:
                state ^= _GENERATOR[bit]
    return state


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
        self._templates = {expiry: Template(_any_invoice(merchant, expiry)) for expiry in (LONG_S, SHORT_S)}
        self._made = 0

    def fill(self, count: int, expired: int = 0) -> list[str]:
        """Until there are so many; the labels of the last few. The plugin has them in its books when this returns."""
        self._stage.without_plugin()
        strings = pipeline(self._stage.merchant, self._requests(count, expired))
        self._made = count
        self._stage.with_plugin()
        return strings

    def _requests(self, count: int, expired: int) -> Iterator[dict[str, Any]]:
        for number in range(self._made, count):
            root = self._roots[number % len(self._roots)]
            index = number // len(self._roots) + 1
            preimage = root.invoice(index).preimage
            template = self._templates[SHORT_S if number - self._made < expired else LONG_S]
            yield {
                "invstring": template.filled(preimage),
                "label": Slot(root.paycode_id, index).label,
                "preimage": preimage.hex(),
            }


def _any_invoice(merchant: Node, expiry: int) -> str:
    given = {"amount_msat": PAID_MSAT, "label": fresh("template"), "description": DESCRIPTION, "expiry": expiry}
    return str(merchant.call("invoice", **given)["bolt11"])


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
