"""An HTLC that is for this node: what the `htlc_accepted` hook tells of it, and the words to fail it with."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: One HTLC of a channel: short_channel_id and the channel's number for it. The hook names it so again after a restart
#: of the node.
Key = tuple[str, int]

#: A payment may be up to this many times what its invoice asks for (BOLT 4; CLN v26.06 `invoice_check_payment`).
MOST_TIMES = 2

#: The hook's answer that lets the node go on as if the plugin were not there.
CONTINUE: dict[str, str] = {"result": "continue"}

_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS = 0x400F
_FINAL_INCORRECT_HTLC_AMOUNT = 19
_MPP_TIMEOUT = 23
_TEMPORARY_NODE_FAILURE = 0x2002


@dataclass(frozen=True, kw_only=True, slots=True)
class Htlc:
    key: Key
    #: 64 hex characters
    payment_hash: str
    amount_msat: int
    #: block height from which the payer's side may take it back
    cltv_expiry: int
    #: what is left of that, as the node counts
    blocks_left: int
    #: what the payer says that all parts of the payment are together
    total_msat: int
    #: 64 hex characters
    payment_secret: str
    #: lightningd refuses an HTLC that carries payment_metadata
    has_metadata: bool
    #: and one that brings less, or expires sooner, than its onion says: someone on the way took from it
    is_skimmed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class IncomingHtlc:
    """What the node says of one HTLC towards us (`listpeerchannels`)."""

    key: Key
    payment_hash: str
    amount_msat: int
    #: neither fulfilled nor failed so far
    is_undecided: bool


def undecided(htlcs: Iterable[IncomingHtlc]) -> dict[str, dict[Key, int]]:
    """Amounts of the HTLCs that are neither fulfilled nor failed, by payment hash."""
    found: dict[str, dict[Key, int]] = {}
    for htlc in htlcs:
        if htlc.is_undecided:
            found.setdefault(htlc.payment_hash, {})[htlc.key] = htlc.amount_msat
    return found


def is_final(params: Mapping[str, Any]) -> bool:
    """The HTLC ends at this node and belongs to a payment with a secret, as every BOLT 11 payment does."""
    onion = params["onion"]
    return "payment_secret" in onion and "short_channel_id" not in onion and "next_node_id" not in onion


def read_htlc(params: Mapping[str, Any]) -> Htlc:
    """An HTLC for which `is_final`; raises KeyError, ValueError or TypeError when the call is not as expected."""
    htlc, onion = params["htlc"], params["onion"]
    return Htlc(
        key=(str(htlc["short_channel_id"]), int(htlc["id"])),
        payment_hash=str(htlc["payment_hash"]),
        amount_msat=int(htlc["amount_msat"]),
        cltv_expiry=int(htlc["cltv_expiry"]),
        blocks_left=int(htlc["cltv_expiry_relative"]),
        total_msat=int(onion["total_msat"]),
        payment_secret=str(onion["payment_secret"]),
        has_metadata="payment_metadata" in onion,
        is_skimmed=int(htlc["amount_msat"]) < int(onion["forward_msat"])
        or int(htlc["cltv_expiry"]) < int(onion["outgoing_cltv_value"]),
    )


def is_payable(htlc: Htlc, *, amount_msat: int, payment_secret: str, final_cltv_blocks: int) -> bool:
    """The node would take this part for an unpaid invoice of this amount and secret (CLN v26.06 `handle_localpay` and
    `invoice_check_payment`).
    """
    return (
        amount_msat <= htlc.total_msat <= MOST_TIMES * amount_msat
        and htlc.blocks_left >= final_cltv_blocks
        and not htlc.has_metadata
        and not htlc.is_skimmed
        and hmac.compare_digest(htlc.payment_secret, payment_secret)
    )


def incorrect_or_unknown_details(htlc: Htlc, height: int) -> dict[str, str]:
    """BOLT 4 `incorrect_or_unknown_payment_details`: what a node says of a payment it does not expect (any more)."""
    return _fail(_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, htlc.amount_msat.to_bytes(8, "big") + height.to_bytes(4, "big"))


def final_incorrect_amount(htlc: Htlc) -> dict[str, str]:
    """BOLT 4 `final_incorrect_htlc_amount`: the parts do not agree about their total."""
    return _fail(_FINAL_INCORRECT_HTLC_AMOUNT, htlc.amount_msat.to_bytes(8, "big"))


def mpp_timeout() -> dict[str, str]:
    """BOLT 4 `mpp_timeout`: the other parts did not come in time."""
    return _fail(_MPP_TIMEOUT)


def temporary_failure() -> dict[str, str]:
    """BOLT 4 `temporary_node_failure`: the payer may try again."""
    return _fail(_TEMPORARY_NODE_FAILURE)


def _fail(code: int, data: bytes = b"") -> dict[str, str]:
    """A malformed `failure_message` would abort lightningd (v26.06 `htlc_accepted_hook_deserialize`)."""
    return {"result": "fail", "failure_message": (code.to_bytes(2, "big") + data).hex()}
