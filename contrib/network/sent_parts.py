"""A payment of exactly these parts: what a wallet would not do by itself."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from devnode import onion

from .daemon_node import DaemonNode
from .interface import Answer, ConnectionLost

#: lightningd refuses a second group of parts while one is pending, and does not mind how much one group pays
#: when nobody tells it the total: every part of ours is in this one.
_GROUP = 1

#: A part of a payment hash needs a number of its own in the group, also after a restart of this process.
_numbers = itertools.count(time.time_ns() // 1_000)


@dataclass(frozen=True)
class Parts:
    """What the payer is to send; None takes what the invoice says."""

    bolt11: str
    amounts: list[int]
    total_msat: int | None
    payment_secret: str | None
    #: Blocks beyond ``min_final_cltv_expiry``.
    cltv_extra: int
    #: What each onion tells beyond what its HTLC brings, as if someone on the way took it.
    skimmed_msat: int = 0

    def send(self, payer: DaemonNode, merchant_id: str, timeout_s: float) -> list[Answer]:
        """What became of each part, once all have ended."""
        invoice = payer.call("decode", self.bolt11)
        secret = self.payment_secret or invoice["payment_secret"]
        total = self.total_msat or invoice.get("amount_msat") or sum(self.amounts)
        # lightningd adds the delay to the block after the one it has seen.
        delay = invoice["min_final_cltv_expiry"] + self.cltv_extra - 1
        expiry = payer.call("getinfo")["blockheight"] + delay + 1
        channels = payer.call("listpeerchannels", merchant_id)["channels"]
        requests = []
        for amount in self.amounts:
            payload = onion.final_payload(amount + self.skimmed_msat, expiry, secret, total)
            made = payer.call(
                "createonion",
                hops=[{"pubkey": merchant_id, "payload": payload.hex()}],
                assocdata=invoice["payment_hash"],
            )
            number = next(_numbers)
            part = {"payment_hash": invoice["payment_hash"], "partid": number, "groupid": _GROUP}
            # Where there are several channels the parts take them in turn.
            channel = channels[number % len(channels)]["short_channel_id"]
            hop = {"id": merchant_id, "channel": channel, "amount_msat": amount, "delay": delay}
            sent = {"first_hop": hop, "amount_msat": amount, "bolt11": self.bolt11, **made}
            requests.append(("sendonion", part | sent))
            # Asked for in one go with it: the reason of a failure is told to those who wait already.
            requests.append(("waitsendpay", part | {"timeout": int(timeout_s)}))
        answers = _call_at_once(payer, requests, timeout_s)
        return [
            _outcome(amount, sent, ended)
            for amount, sent, ended in zip(self.amounts, answers[::2], answers[1::2], strict=True)
        ]


#: The payer has a number for what cannot be mended by another route, and a flag (BOLT 4, PERM) that says so; of an
#: onion that was made elsewhere it does not know that the one who failed it was the last hop.
_DESTINATION_FAILED = 203
_PERM = 0x4000


def _outcome(amount: int, sent: Answer, ended: Answer) -> Answer:
    error = sent.get("error") or ended.get("error")
    if error is None:
        preimage = ended["result"]["payment_preimage"]
        return {"amount_msat": amount, "status": "complete", "payment_preimage": preimage}
    reason = error.get("data", {})
    if reason.get("failcode", 0) & _PERM:
        error = error | {"code": _DESTINATION_FAILED}
    return {"amount_msat": amount, "status": "failed", "failcodename": reason.get("failcodename"), "error": error}


def _call_at_once(node: DaemonNode, requests: Iterable[tuple[str, dict[str, Any]]], timeout_s: float) -> list[Answer]:
    """The answers in the order of the requests, which are all under way before any is answered."""
    wanted = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(requests)
    ]
    answers: dict[int, Answer] = {}
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(node.rpc_path))
            connection.sendall("".join(json.dumps(request) for request in wanted).encode())
            received = b""
            while len(answers) < len(wanted):
                chunk = connection.recv(1 << 16)
                if not chunk:
                    raise ConnectionError("closed")
                *whole, received = (received + chunk).split(b"\n\n")
                answers |= {answer["id"]: answer for answer in map(json.loads, whole)}
        except OSError as error:
            raise ConnectionLost("sendonion", {}, str(error)) from error
    return [answers[number] for number in range(len(wanted))]
