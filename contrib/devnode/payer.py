"""The payer: RPC methods of devnode's own with which a test pays an invoice, mines blocks and sets faults."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from . import invoice_string, keys
from .command import Call, Command, Result
from .errors import Code, InvalidParams, RpcError
from .incoming import new_payment_id
from .invoice_string import InvalidInvoice
from .parameters import (
    Parameter,
    optional,
    read_bool,
    read_label,
    read_msat,
    read_number,
    read_string,
    read_u32,
    token,
)

if TYPE_CHECKING:
    from .node import Node


async def _pay(node: Node, call: Call) -> Result:
    """Pay ``bolt11`` in ``parts`` parts; the same ``payment_id`` again waits for the same payment."""
    params = call.params
    try:
        invoice = invoice_string.decode(params["bolt11"], node.currency)
    except InvalidInvoice as error:
        raise InvalidParams(str(error)) from error
    amount = params["amount_msat"] or invoice.amount_msat
    if amount is None:
        raise InvalidParams("amount_msat parameter required")
    if invoice.payee != node.keys.node_id or invoice.payment_secret is None:
        raise RpcError(Code.PAY_ROUTE_NOT_FOUND, "We could not find a usable set of paths: not an invoice of this node")
    if not params["force"] and invoice.date + invoice.expiry < time.time():
        raise RpcError(Code.PAY_INVOICE_EXPIRED, "Invoice expired")
    payment_id = params["payment_id"] or new_payment_id()
    amounts = _split(int(amount), params["parts"])
    sent = amounts[: len(amounts) - params["withhold"]]
    cltv_delta = invoice.min_final_cltv_expiry + params["cltv_extra"]
    node.incoming.offer(payment_id, invoice.payment_hash, sent, int(amount), invoice.payment_secret, cltv_delta)
    preimage, failure = await node.incoming.outcome(payment_id)
    if preimage is None:
        data = {"failcodename": failure, "payment_hash": invoice.payment_hash}
        raise RpcError(Code.PAY_DESTINATION_PERM_FAIL, f"failed: {failure} (reply from remote)", data)
    return {
        "payment_preimage": preimage,
        "status": "complete",
        "payment_hash": invoice.payment_hash,
        "amount_msat": int(amount),
    }


def _split(amount: int, parts: int) -> list[int]:
    if not 1 <= parts <= amount:
        raise InvalidParams(f"parts: cannot split {amount}msat into {parts}")
    return [amount // parts + (1 if place < amount % parts else 0) for place in range(parts)]


def _payer_invoice(node: Node, call: Call) -> Result:
    """An invoice of the far node, for this node to pay with ``xpay``; not ``known``, it will be refused."""
    preimage = hashlib.sha256(node.keys.payer_secret().encode() + call.params["label"].encode()).digest()
    terms = invoice_string.Terms(
        currency=node.currency,
        timestamp=int(time.time()),
        payment_hash=keys.payment_hash(preimage),
        payment_secret=keys.payment_secret(preimage),
        amount_msat=call.params["amount_msat"],
        description=call.params["label"],
        description_hash_only=False,
        expiry_s=3600,
        min_final_cltv=18,
    )
    if call.params["known"]:
        node.store.execute("INSERT OR IGNORE INTO foreign_invoices VALUES (?, ?)", terms.payment_hash, preimage.hex())
    bolt11 = invoice_string.encode(terms, node.keys.payer_secret())
    return {"bolt11": bolt11, "payment_hash": terms.payment_hash}


def _mine(node: Node, call: Call) -> Result:
    height = node.blockheight + call.params["blocks"]
    node.store.set_var("blockheight", height)

    def tell() -> None:
        block = {"hash": hashlib.sha256(str(height).encode()).hexdigest(), "height": height}
        node.plugins.notify("block_added", {"block_added": block})
        node.incoming.on_block()

    node.store.after_commit(tell)
    return {"blockheight": height}


def _fault(node: Node, call: Call) -> Result:
    params = call.params
    seconds = 1.0 if params["seconds"] is None else float(params["seconds"])
    node.faults.add(
        method=params["method"],
        kind=params["fault"],
        count=params["count"],
        seconds=seconds,
        code=params["code"],
        message=params["message"],
    )
    return {}


def _clear_faults(node: Node, call: Call) -> Result:
    call.checkpoint()
    node.faults.clear()
    return {}


def _read_code(name: str, value: object) -> int:
    try:
        return int(token(value))
    except ValueError:
        raise InvalidParams(f"{name}: should be an integer") from None


COMMANDS = (
    Command(
        "dev-pay",
        _pay,
        (
            Parameter("bolt11", read_string),
            optional("amount_msat", read_msat),
            optional("parts", read_number, 1),
            optional("payment_id", read_string),
            optional("force", read_bool, False),
            optional("withhold", read_number, 0),
            optional("cltv_extra", read_u32, 0),
        ),
    ),
    Command(
        "dev-payer-invoice",
        _payer_invoice,
        (
            Parameter("amount_msat", read_msat),
            Parameter("label", read_label),
            optional("known", read_bool, True),
        ),
    ),
    Command("dev-mine", _mine, (optional("blocks", read_u32, 1),)),
    Command(
        "dev-fault",
        _fault,
        (
            Parameter("method", read_string),
            Parameter("fault", read_string),
            optional("count", read_u32, 1),
            optional("seconds", read_string),
            optional("code", _read_code),
            optional("message", read_string),
        ),
    ),
    Command("dev-clear-faults", _clear_faults),
)
