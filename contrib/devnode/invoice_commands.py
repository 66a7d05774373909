"""RPC methods about invoices (lightningd's ``invoice.c``)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING

from bolt11 import Bolt11

from . import invoice_string, keys
from .command import Call, Command, Result
from .errors import Code, InvalidParams, NodeAbort, RpcError
from .invoices import Row, to_json
from .parameters import (
    Parameter,
    optional,
    read_any,
    read_array,
    read_bool,
    read_escaped_string,
    read_hash,
    read_index,
    read_label,
    read_number,
    read_positive_msat_or_any,
    read_preimage,
    read_string,
    read_u32,
    read_u64,
)

if TYPE_CHECKING:
    from .node import Node

_LABEL_MAX_BYTES = 128
_WEEK_S = 7 * 24 * 3600

#: lightningd adds the expiry to the clock and stores it in a signed field: from here on it dies.
_EXPIRY_LIMIT_S = 2**60


def _invoice(node: Node, call: Call) -> Result:
    params = call.params
    label, description = params["label"], params["description"]
    escaped = json.dumps(label, ensure_ascii=False)[1:-1]
    if len(escaped.encode()) > _LABEL_MAX_BYTES:
        raise InvalidParams(f"Label '{escaped}' over {_LABEL_MAX_BYTES} bytes")
    length = len(description.encode())
    if length > invoice_string.DESCRIPTION_MAX_BYTES and not params["deschashonly"]:
        raise InvalidParams(
            f"Description greater than {invoice_string.DESCRIPTION_MAX_BYTES} bytes invalid"
            f" (description length {length})"
        )
    call.checkpoint()
    if params["expiry"] >= _EXPIRY_LIMIT_S:
        raise NodeAbort(f"expiry {params['expiry']} does not fit the database")

    preimage = params["preimage"] or os.urandom(32)
    payment_hash = keys.payment_hash(preimage)
    payment_secret = keys.payment_secret(preimage)
    if node.invoices.by_hash(payment_hash) is not None:
        raise RpcError(Code.INVOICE_PREIMAGE_ALREADY_EXISTS, "preimage already used")
    if node.invoices.by_label(label) is not None:
        raise RpcError(Code.INVOICE_LABEL_ALREADY_EXISTS, f"Duplicate label '{escaped}'")
    terms = invoice_string.Terms(
        currency=node.currency,
        timestamp=int(time.time()),
        payment_hash=payment_hash,
        payment_secret=payment_secret,
        amount_msat=params["amount_msat"],
        description=description,
        description_hash_only=params["deschashonly"],
        expiry_s=params["expiry"],
        min_final_cltv=node.cltv.final if params["cltv"] is None else params["cltv"],
    )
    bolt11 = invoice_string.encode(terms, node.keys.node_secret)
    row = node.invoices.create(
        label=label,
        payment_hash=payment_hash,
        preimage=preimage.hex(),
        invstring=bolt11,
        description=description,
        amount_msat=params["amount_msat"],
        expiry_s=params["expiry"],
    )
    _notify_creation(node, row)
    return {
        "payment_hash": payment_hash,
        "expires_at": row["expires_at"],
        "bolt11": bolt11,
        "payment_secret": payment_secret,
        "created_index": row["id"],
        "warning_capacity": "Insufficient incoming channel capacity to pay invoice",
    }


def _notify_creation(node: Node, row: Row) -> None:
    details: Result = {} if row["amount_msat"] is None else {"msat": row["amount_msat"]}
    details |= {"preimage": row["preimage"], "label": row["label"]}
    node.store.after_commit(lambda: node.plugins.notify("invoice_creation", {"invoice_creation": details}))


def _signed(node: Node, invstring: str) -> tuple[str, Bolt11]:
    try:
        return invoice_string.sign(invstring, node.currency, node.keys.node_secret)
    except invoice_string.InvalidInvoice as error:
        raise InvalidParams(f"Unparsable invoice '{invstring}': {error}") from error


def _createinvoice(node: Node, call: Call) -> Result:
    label, preimage = call.params["label"], call.params["preimage"]
    signed, invoice = _signed(node, call.params["invstring"])
    payment_hash = keys.payment_hash(preimage)
    description = invoice_string.text(call.params["invstring"])
    if description is None:
        raise InvalidParams("Missing description in invoice")
    if payment_hash != invoice.payment_hash:
        raise InvalidParams("Incorrect preimage")
    call.checkpoint()
    existing = node.invoices.by_label(label)
    if existing is not None:
        raise RpcError(Code.INVOICE_LABEL_ALREADY_EXISTS, "Duplicate label", to_json(existing))
    amount = None if invoice.amount_msat is None else int(invoice.amount_msat)
    row = node.invoices.create(
        label=label,
        payment_hash=payment_hash,
        preimage=preimage.hex(),
        invstring=signed,
        description=description,
        amount_msat=amount,
        expiry_s=invoice.expiry,
    )
    _notify_creation(node, row)
    return to_json(row)


def _signinvoice(node: Node, call: Call) -> Result:
    signed, invoice = _signed(node, call.params["invstring"])
    if invoice.description is None and invoice.description_hash is None:
        raise InvalidParams("Missing description in invoice")
    call.checkpoint()
    return {"bolt11": signed}


def _listinvoices(node: Node, call: Call) -> Result:
    params = call.params
    selectors = [params[name] for name in ("label", "invstring", "payment_hash", "offer_id")]
    if sum(selector is not None for selector in selectors) > 1:
        raise InvalidParams("Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}")
    if params["start"] != 0 and params["index"] is None:
        raise InvalidParams("Can only specify {start} with {index}")
    if params["limit"] is not None and params["index"] is None:
        raise InvalidParams("Can only specify {limit} with {index}")
    payment_hash = params["payment_hash"]
    if params["invstring"] is not None:
        try:
            payment_hash = invoice_string.decode(params["invstring"], node.currency).payment_hash
        except invoice_string.InvalidInvoice:
            raise InvalidParams("Invalid invstring") from None
    call.checkpoint()

    found: list[Row | None]
    if params["label"] is not None:
        found = [node.invoices.by_label(params["label"])]
    elif payment_hash is not None:
        found = [node.invoices.by_hash(payment_hash)]
    elif params["offer_id"] is not None:
        found = []
    else:
        found = [*node.invoices.page(params["index"], params["start"], params["limit"])]
    return {"invoices": [to_json(row) for row in found if row is not None]}


def _delinvoice(node: Node, call: Call) -> Result:
    status = call.params["status"]
    row = node.invoices.by_label(call.params["label"])
    if row is None:
        raise RpcError(Code.INVOICE_NOT_FOUND, "Unknown invoice")
    if row["status"] != status:
        data = {"current_status": row["status"], "expected_status": status}
        raise RpcError(Code.INVOICE_STATUS_UNEXPECTED, f"Invoice status is {row['status']} not {status}", data)
    if call.params["desconly"] and row["description"] is None:
        raise RpcError(Code.INVOICE_NO_DESCRIPTION, "Invoice description already removed")
    call.checkpoint()
    answer = to_json(row)
    if call.params["desconly"]:
        node.invoices.delete_description(row)
        del answer["description"]
    else:
        node.invoices.delete(row)
    return answer


async def _waitinvoice(node: Node, call: Call) -> Result:
    row = node.invoices.by_label(call.params["label"])
    if row is None:
        raise RpcError(Code.LIGHTNINGD, "Label not found")
    call.checkpoint()
    if row["status"] == "unpaid":
        ended = await node.invoices.wait_for(row["id"])
        if ended is None:
            raise RpcError(Code.LIGHTNINGD, "Invoice deleted during wait")
        row = ended
    if row["status"] == "expired":
        raise RpcError(Code.INVOICE_EXPIRED_DURING_WAIT, "invoice expired during wait", to_json(row))
    return to_json(row)


async def _waitanyinvoice(node: Node, call: Call) -> Result:
    call.checkpoint()
    row = node.invoices.paid_after(call.params["lastpay_index"])
    if row is None:
        try:
            row = await asyncio.wait_for(node.invoices.wait_for(None), call.params["timeout"])
        except asyncio.TimeoutError:
            message = "Timed out while waiting for invoice to be paid"
            raise RpcError(Code.INVOICE_WAIT_TIMED_OUT, message) from None
    if row is None:
        raise RpcError(Code.LIGHTNINGD, "Invoice deleted during wait")
    return to_json(row)


def _autoclean_once(node: Node, call: Call) -> Result:
    """The ``autoclean`` plugin's two subsystems that are about invoices."""
    subsystem = call.params["subsystem"]
    statuses = {"expiredinvoices": ("expired", "expires_at"), "paidinvoices": ("paid", "paid_at")}
    if subsystem not in statuses:
        raise InvalidParams(f"subsystem: Unknown subsystem: invalid token '{subsystem}'")
    call.checkpoint()
    status, since = statuses[subsystem]
    cleaned = uncleaned = 0
    for row in node.invoices.page(None, 0, None):
        if row["status"] == status and row[since] <= int(time.time()) - call.params["age"]:
            node.invoices.delete(row)
            cleaned += 1
        else:
            uncleaned += 1
    return {"autoclean": {subsystem: {"cleaned": cleaned, "uncleaned": uncleaned}}}


COMMANDS = (
    Command(
        "invoice",
        _invoice,
        (
            Parameter("amount_msat", read_positive_msat_or_any),
            Parameter("label", read_label),
            Parameter("description", read_escaped_string),
            optional("expiry", read_u64, _WEEK_S),
            optional("fallbacks", read_array),
            optional("preimage", read_preimage),
            optional("exposeprivatechannels", read_any),
            optional("cltv", read_number),
            optional("deschashonly", read_bool, False),
        ),
    ),
    Command(
        "createinvoice",
        _createinvoice,
        (
            Parameter("invstring", read_string),
            Parameter("label", read_label),
            Parameter("preimage", read_preimage),
        ),
    ),
    Command("signinvoice", _signinvoice, (Parameter("invstring", read_string),)),
    Command(
        "listinvoices",
        _listinvoices,
        (
            optional("label", read_label),
            optional("invstring", read_string),
            optional("payment_hash", read_hash),
            optional("offer_id", read_hash),
            optional("index", read_index),
            optional("start", read_u64, 0),
            optional("limit", read_u32),
        ),
    ),
    Command(
        "delinvoice",
        _delinvoice,
        (
            Parameter("label", read_label),
            Parameter("status", read_string),
            optional("desconly", read_bool, False),
        ),
    ),
    Command("waitinvoice", _waitinvoice, (Parameter("label", read_label),)),
    Command(
        "waitanyinvoice",
        _waitanyinvoice,
        (optional("lastpay_index", read_u64, 0), optional("timeout", read_u64)),
    ),
    Command(
        "autoclean-once",
        _autoclean_once,
        (Parameter("subsystem", read_string), Parameter("age", read_u64)),
    ),
)
