"""The payer: RPC methods of devnode's own with which a test pays an invoice, mines blocks and sets faults."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bolt11 import Bolt11

from . import invoice_string, keys
from .command import Call, Command, Result
from .errors import Code, InvalidParams, RpcError
from .htlcs import Htlc
from .incoming import new_payment_id
from .invoice_string import InvalidInvoice
from .parameters import (
    Parameter,
    optional,
    read_array,
    read_bool,
    read_hash,
    read_label,
    read_msat,
    read_number,
    read_string,
    read_u32,
    token,
)

if TYPE_CHECKING:
    from .node import Node


#: Blocks beyond what an invoice asks for.
SPARE_BLOCKS = 2


@dataclass(frozen=True)
class Asked:
    """What the payer is to put into the onions."""

    amounts: list[int]
    total_msat: int
    secret: str
    cltv_extra: int


async def _pay(node: Node, call: Call) -> Result:
    """Pay ``bolt11`` in ``parts`` equal parts, as a wallet does."""
    params = call.params
    invoice = _payable(node, params["bolt11"])
    amount = params["amount_msat"] or invoice.amount_msat
    if amount is None:
        raise InvalidParams("amount_msat parameter required")
    if not params["force"] and invoice.date + invoice.expiry < time.time():
        raise RpcError(Code.PAY_INVOICE_EXPIRED, "Invoice expired")
    amounts = _split(int(amount), params["parts"])
    parts = await _sent(node, call, invoice, Asked(amounts, int(amount), str(invoice.payment_secret), SPARE_BLOCKS))
    failures = [part.failure for part in parts if part.state == "failed"]
    if failures:
        data = {"failcodename": failures[0], "payment_hash": invoice.payment_hash}
        raise RpcError(Code.PAY_DESTINATION_PERM_FAIL, f"failed: {failures[0]} (reply from remote)", data)
    return {
        "payment_preimage": parts[0].preimage,
        "status": "complete",
        "payment_hash": invoice.payment_hash,
        "amount_msat": int(amount),
    }


async def _send(node: Node, call: Call) -> Result:
    """Send parts that no wallet would; what became of each is the answer."""
    params = call.params
    invoice = _payable(node, params["bolt11"])
    amounts = [read_msat("parts", part) for part in params["parts"]]
    total = params["total_msat"] or int(invoice.amount_msat or sum(amounts))
    secret = params["payment_secret"] or str(invoice.payment_secret)
    parts = await _sent(node, call, invoice, Asked(amounts, total, secret, params["cltv_extra"]))
    return {"parts": [_outcome(part) for part in parts]}


def _outcome(part: Htlc) -> Result:
    if part.state == "failed":
        return {"amount_msat": part.amount_msat, "status": "failed", "failcodename": part.failure}
    return {"amount_msat": part.amount_msat, "status": "complete", "payment_preimage": part.preimage}


def _payable(node: Node, bolt11: str) -> Bolt11:
    try:
        invoice = invoice_string.decode(bolt11, node.currency)
    except InvalidInvoice as error:
        raise InvalidParams(str(error)) from error
    if invoice.payee != node.keys.node_id or invoice.payment_secret is None:
        raise RpcError(Code.PAY_ROUTE_NOT_FOUND, "We could not find a usable set of paths: not an invoice of this node")
    return invoice


async def _sent(node: Node, call: Call, invoice: Bolt11, asked: Asked) -> list[Htlc]:
    """The parts once they have ended; the same ``payment_id`` again waits for the same parts."""
    payment_id = call.params["payment_id"] or new_payment_id()
    expiry = node.blockheight + invoice.min_final_cltv_expiry + asked.cltv_extra
    node.incoming.offer(payment_id, invoice.payment_hash, asked.amounts, asked.total_msat, asked.secret, expiry)
    return await node.incoming.ended(payment_id)


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
    before = node.blockheight
    heights = range(before + 1, before + call.params["blocks"] + 1)
    node.store.set_var("blockheight", heights.stop - 1)

    def tell() -> None:
        for height in heights:
            block = {"hash": hashlib.sha256(str(height).encode()).hexdigest(), "height": height}
            node.plugins.notify("block_added", {"block_added": block})
        node.incoming.on_block()

    node.store.after_commit(tell)
    return {"blockheight": node.blockheight}


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


def _read_integer(name: str, value: object) -> int:
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
        ),
    ),
    Command(
        "dev-send",
        _send,
        (
            Parameter("bolt11", read_string),
            Parameter("parts", read_array),
            optional("total_msat", read_msat),
            optional("payment_secret", read_hash),
            optional("cltv_extra", _read_integer, SPARE_BLOCKS),
            optional("payment_id", read_string),
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
            optional("code", _read_integer),
            optional("message", read_string),
        ),
    ),
    Command("dev-clear-faults", _clear_faults),
)
