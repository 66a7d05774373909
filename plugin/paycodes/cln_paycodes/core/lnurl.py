"""LNURL-pay as data: what a wallet is told, and what it may send back. No HTTP, no clock.

The invoice commits to the metadata string exactly as it was sent (LUD-06), with the raw payer data behind it when the
payer sent some (LUD-18), so both are made and joined here only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..errors import BadParameter
from . import bech32
from .json_text import compact
from .records import Paycode
from .terms import SUPPLY_MSAT, check_text

#: Characters of the one-line summary that a wallet shows before it pays (LUD-06 `text/plain`).
SUMMARY_CHARS = 144
#: LUD-09: characters of a success message.
SUCCESS_CHARS = 144
#: Bytes of the raw JSON of LUD-18 payer data.
PAYER_DATA_BYTES = 4096
#: What a payer may, but need not, say about himself (LUD-18), and how long each may be. `pubkey` and `auth` need
#: proofs that no backend here asks for.
PAYER_DATA_CHARS = {"name": 256, "identifier": 256, "email": 256}

_ADDRESS = re.compile(r"[^\s@]{1,128}@[^\s@]{1,253}")
_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A wallet's callback, checked."""

    amount_msat: int
    comment: str | None
    payer_data: dict[str, Any] | None
    #: the payer data as it was sent, for the hash; empty when there is none
    payer_data_raw: str


def encode_lnurl(url: str) -> str:
    """LUD-01: the URL as upper case bech32, which makes the smallest QR code."""
    return bech32.encode("lnurl", *bech32.pack(url.encode())).upper()


def summary(description: str) -> str:
    """The first line of a description, shortened to what a wallet shows in one line."""
    first = description.strip().split("\n", 1)[0].strip()
    return first if len(first) <= SUMMARY_CHARS else first[: SUMMARY_CHARS - 1] + "…"


def metadata(description: str, identifier: str | None) -> str:
    """The metadata string (LUD-06), with the whole text when it is more than the summary (LUD-20) and the lightning
    address (LUD-16).
    """
    short = summary(description)
    entries = [["text/plain", short]]
    if description.strip() != short:
        entries.append(["text/long-desc", description])
    if identifier is not None:
        entries.append(["text/identifier", identifier])
    return compact(entries)


def pay_request(paycode: Paycode, *, callback: str, identifier: str | None) -> dict[str, Any]:
    """What a wallet gets when it resolves the code (LUD-06, LUD-12, LUD-18)."""
    terms = paycode.terms
    answer = {
        "tag": "payRequest",
        "callback": callback,
        "minSendable": terms.min_msat,
        "maxSendable": terms.highest_msat,
        "metadata": metadata(terms.description, identifier),
        "payerData": {name: {"mandatory": False} for name in PAYER_DATA_CHARS},
    }
    if terms.comment_chars:
        answer["commentAllowed"] = terms.comment_chars
    return answer


def pay_answer(paycode: Paycode, *, bolt11: str, verify: str) -> dict[str, Any]:
    """What a wallet gets for its callback (LUD-06, LUD-09, LUD-11, LUD-21)."""
    thanks = f"Thank you! Paid: {summary(paycode.terms.description)}"
    return {
        "pr": bolt11,
        "routes": [],
        "disposable": False,
        "verify": verify,
        "successAction": {
            "tag": "message",
            "message": thanks if len(thanks) <= SUCCESS_CHARS else thanks[: SUCCESS_CHARS - 1] + "…",
        },
    }


def read_callback(query: dict[str, str]) -> Asked:
    """The parameters of a callback, before the code's own limits; BadParameter naming the one that is wrong."""
    amount = query.get("amount", "")
    if not _WHOLE.fullmatch(amount) or not 1 <= int(amount) <= SUPPLY_MSAT:
        raise BadParameter("amount: give a whole number of millisatoshi")
    raw = query.get("payerdata", "")
    return Asked(
        amount_msat=int(amount),
        comment=query.get("comment") or None,
        payer_data=read_payer_data(raw) if raw else None,
        payer_data_raw=raw,
    )


def read_payer_data(raw: str) -> dict[str, Any]:
    """LUD-18 payer data, with only the fields that `pay_request` names; else BadParameter."""
    if len(raw.encode()) > PAYER_DATA_BYTES:
        raise BadParameter(f"payerdata: at most {PAYER_DATA_BYTES} bytes")
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadParameter("payerdata: it is not valid JSON") from None
    if not isinstance(fields, dict):
        raise BadParameter("payerdata: give a JSON object")
    check_text("payerdata", raw, newlines=True)
    for name, value in fields.items():
        if name not in PAYER_DATA_CHARS:
            raise BadParameter(f"payerdata: only {', '.join(PAYER_DATA_CHARS)} are asked for")
        if not isinstance(value, str):
            raise BadParameter(f"payerdata: {name} must be a string")
        check_text(f"payerdata {name}", value, most_chars=PAYER_DATA_CHARS[name])
        if name != "name" and not _ADDRESS.fullmatch(value):
            raise BadParameter(f"payerdata: {name} must look like user@example.com")
    return fields


def payer_data_of(described: str) -> dict[str, Any] | None:
    """The payer data behind the metadata in an invoice's description, None when there is none to be found."""
    if not described.startswith("["):
        return None
    try:
        _, end = json.JSONDecoder().raw_decode(described)
        return read_payer_data(described[end:]) if end < len(described) else None
    except (ValueError, RecursionError, BadParameter):
        return None
