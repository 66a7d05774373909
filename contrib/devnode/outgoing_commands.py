"""RPC methods about outgoing payments: lists, paying the far node, and payments that end as a test says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import invoice_string
from .command import Call, Command, Result
from .errors import Code, InvalidParams, RpcError
from .invoice_string import InvalidInvoice
from .outgoing import STATUSES, Row, new_group, to_json
from .parameters import (
    Parameter,
    one_of,
    optional,
    read_any,
    read_hash,
    read_index,
    read_label,
    read_msat,
    read_preimage,
    read_string,
    read_u32,
    read_u64,
)

if TYPE_CHECKING:
    from .node import Node

_read_status = one_of(STATUSES, "should be an invoice status")


def _listsendpays(node: Node, call: Call) -> Result:
    rows = node.outgoing.select(call.params)
    call.checkpoint()
    return {"payments": [to_json(row) for row in rows]}


def _listpays(node: Node, call: Call) -> Result:
    """Parts of one hash and group are one pay (the xpay plugin's ``listpays.c``)."""
    rows = node.outgoing.select(call.params)
    call.checkpoint()
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["payment_hash"], row["groupid"]), []).append(row)
    return {"pays": [_pay_entry(parts) for parts in groups.values()]}


def _pay_entry(parts: list[Row]) -> Result:
    first = parts[0]
    live = [part for part in parts if part["status"] != "failed"]
    statuses = {part["status"] for part in parts}
    status = next(s for s in ("complete", "pending", "failed") if s in statuses)
    completed = [part["completed_at"] for part in parts if part["status"] == "complete"]
    amount_known = live and all(part["amount_msat"] for part in live)
    answer: dict[str, Any] = {
        "bolt11": next((part["invstring"] for part in parts if part["invstring"]), None),
        "destination": first["destination"],
        "payment_hash": first["payment_hash"],
        "status": status,
        "created_at": first["created_at"],
        "completed_at": min(completed) if completed else None,
        "label": first["label"],
        "preimage": next((part["preimage"] for part in parts if part["preimage"]), None),
        "amount_msat": sum(part["amount_msat"] for part in live) if amount_known else None,
        "amount_sent_msat": sum(part["amount_sent_msat"] for part in live),
        "number_of_parts": len(live) if len(live) > 1 else None,
        "created_index": min(part["id"] for part in parts),
        "updated_index": max((part["updated_index"] or 0) for part in parts) or None,
    }
    return {name: value for name, value in answer.items() if value is not None}


async def _send(node: Node, call: Call) -> tuple[Result, Row]:
    """Pay an invoice of the far node, which knows the preimage of those that it made and of no other."""
    invstring = call.params["invstring"]
    try:
        invoice = invoice_string.decode(invstring, node.currency)
    except InvalidInvoice as error:
        raise InvalidParams(f"Invalid bolt11 invoice: {error}") from error
    amount = call.params["amount_msat"] or invoice.amount_msat
    if amount is None:
        raise InvalidParams("amount_msat parameter required")
    call.checkpoint()
    if invoice.has_expired():
        raise RpcError(Code.PAY_INVOICE_EXPIRED, "Invoice expired")
    if invoice.payee != node.payer_id:
        raise RpcError(Code.PAY_ROUTE_NOT_FOUND, "We could not find a usable set of paths.")
    payment_hash = str(invoice.payment_hash)
    with node.store.transaction():
        number = node.outgoing.start(
            payment_hash=payment_hash,
            groupid=new_group(),
            partid=1,
            amount_msat=int(amount),
            label=call.params["label"],
            invstring=invstring,
        )
    known = node.store.row("SELECT preimage FROM foreign_invoices WHERE payment_hash = ?", payment_hash)
    with node.store.transaction():
        node.outgoing.end(node.outgoing.by_id(number), None if known is None else known["preimage"])
    if known is None:
        raise RpcError(
            Code.PAY_DESTINATION_PERM_FAIL,
            "Destination said it doesn't know invoice: incorrect_or_unknown_payment_details",
        )
    answer = {
        "payment_preimage": known["preimage"],
        "amount_msat": int(amount),
        "amount_sent_msat": int(amount),
    }
    return answer, node.outgoing.by_id(number)


async def _xpay(node: Node, call: Call) -> Result:
    answer, _ = await _send(node, call)
    return answer | {"failed_parts": 0, "successful_parts": 1}


async def _pay(node: Node, call: Call) -> Result:
    call.params["invstring"] = call.params["bolt11"]
    started_at = time.time()
    answer, row = await _send(node, call)
    return answer | {
        "parts": 1,
        "destination": row["destination"],
        "payment_hash": row["payment_hash"],
        "status": "complete",
        "created_at": started_at,
    }


def _sendpay(node: Node, call: Call) -> Result:
    """A payment that ends as ``status`` says; ``pending`` first and ``complete`` later are the same one."""
    params = call.params
    status, payment_hash, preimage = params["status"], params["payment_hash"], params["preimage"]
    if status == "complete" and preimage is None:
        raise InvalidParams("preimage: a complete payment needs one")
    row = node.store.row(
        "SELECT * FROM payments WHERE payment_hash = ? AND status = 'pending' ORDER BY id DESC LIMIT 1",
        payment_hash,
    )
    if row is None:
        number = node.outgoing.start(
            payment_hash=payment_hash,
            groupid=new_group(),
            partid=params["partid"],
            amount_msat=params["amount_msat"],
            label=params["label"],
            invstring=params["bolt11"],
        )
        row = node.outgoing.by_id(number)
    if status != "pending":
        node.outgoing.end(row, None if status == "failed" else preimage.hex())
    return to_json(node.outgoing.by_id(row["id"]))


_LIST_PARAMETERS = (
    optional("bolt11", read_string),
    optional("payment_hash", read_hash),
    optional("status", _read_status),
    optional("index", read_index),
    optional("start", read_u64, 0),
    optional("limit", read_u32),
)

COMMANDS = (
    Command("listsendpays", _listsendpays, _LIST_PARAMETERS),
    Command("listpays", _listpays, _LIST_PARAMETERS),
    Command(
        "xpay",
        _xpay,
        (
            Parameter("invstring", read_string),
            optional("amount_msat", read_msat),
            optional("maxfee", read_any),
            optional("layers", read_any),
            optional("retry_for", read_any),
            optional("partial_msat", read_any),
            optional("maxdelay", read_any),
            optional("payer_note", read_any),
            optional("label", read_string),
        ),
    ),
    Command(
        "pay",
        _pay,
        (
            Parameter("bolt11", read_string),
            optional("amount_msat", read_msat),
            optional("label", read_string),
            optional("riskfactor", read_any),
            optional("maxfeepercent", read_any),
            optional("retry_for", read_any),
            optional("maxdelay", read_any),
            optional("exemptfee", read_any),
            optional("localinvreqid", read_any),
            optional("exclude", read_any),
            optional("maxfee", read_any),
            optional("description", read_any),
            optional("partial_msat", read_any),
        ),
    ),
    Command(
        "dev-sendpay",
        _sendpay,
        (
            Parameter("payment_hash", read_hash),
            Parameter("amount_msat", read_msat),
            Parameter("status", _read_status),
            optional("preimage", read_preimage),
            optional("bolt11", read_string),
            optional("label", read_label),
            optional("partid", read_u64, 0),
        ),
    ),
)
