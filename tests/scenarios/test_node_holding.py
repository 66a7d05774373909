"""What a plugin can do with the parts of a payment before the node looks at them, on every kind of node."""

from __future__ import annotations

import os

import pytest
from bolt11 import decode, encode
from bolt11.models.tags import TagChar
from network import PaymentFailed
from recording import Recorded, create, listed, wait_until_in_hook


def test_part_can_be_failed_with_a_message(shared_recorded: Recorded, unique: str) -> None:
    """failure_message is what the payer sees."""
    shared_recorded.behave("htlc_accepted", {"result": "fail", "failure_message": "2002"})
    with pytest.raises(PaymentFailed) as raised:
        shared_recorded.network.pay(create(shared_recorded.node, unique)["bolt11"], amount_msat=1000)

    assert raised.value.data["failcodename"] == "WIRE_TEMPORARY_NODE_FAILURE"
    assert listed(shared_recorded.node, unique)["status"] == "unpaid"


def test_held_parts_are_settled_by_a_late_answer(shared_recorded: Recorded, unique: str) -> None:
    """htlc_accepted may answer as late as it likes; the node's RPC goes on meanwhile."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique)
    shared_recorded.behave("htlc_accepted", "hold", "hold")
    payment = network.pay_in_background(invoice["bolt11"], parts=2)
    wait_until_in_hook(shared_recorded, "htlc_accepted", invoice["payment_hash"], 2)
    status = listed(node, unique)["status"]
    node.call("recorder-release", hook="htlc_accepted", answer={"result": "continue"})

    assert payment.result(30)["payment_preimage"] == invoice["preimage"]
    assert status == "unpaid"


def test_invoice_made_while_its_part_is_held_gets_paid(shared_recorded: Recorded, unique: str) -> None:
    """Unknown to the node until the first HTLC: made in the hook, it settles like any other."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique)
    node.call("delinvoice", unique, "unpaid")
    shared_recorded.behave("htlc_accepted", "hold")
    payment = network.pay_in_background(invoice["bolt11"])
    wait_until_in_hook(shared_recorded, "htlc_accepted", invoice["payment_hash"])
    node.call("invoice", amount_msat=1000, label=unique, description="d", preimage=invoice["preimage"])
    node.call("recorder-release", hook="htlc_accepted", answer={"result": "continue"})

    assert payment.result(30)["payment_preimage"] == invoice["preimage"]
    assert listed(node, unique)["status"] == "paid"
    shared_recorded.wait_for("notification", "invoice_payment", unique)


def test_replaced_payload_carries_another_secret(shared_recorded: Recorded, unique: str) -> None:
    """An invoice signed over another payment_secret settles when the hook puts the node's own in its place."""
    node, network = shared_recorded.node, shared_recorded.network
    preimage, foreign = os.urandom(32).hex(), os.urandom(32).hex()
    own = node.call("invoice", amount_msat=1000, label=unique, description="d", preimage=preimage)
    node.call("delinvoice", unique, "unpaid")
    bolt11 = node.call("signinvoice", with_payment_secret(own["bolt11"], foreign))["bolt11"]
    shared_recorded.behave("htlc_accepted", "hold")
    payment = network.pay_in_background(bolt11)
    [seen] = shared_recorded.wait_for("hook", "htlc_accepted", own["payment_hash"])
    node.call("invoice", amount_msat=1000, label=unique, description="d", preimage=preimage)
    payload = seen["onion"]["payload"][2:].replace(foreign, own["payment_secret"])
    node.call("recorder-release", hook="htlc_accepted", answer={"result": "continue", "payload": payload})

    assert seen["onion"]["payment_secret"] == foreign
    assert payment.result(30)["payment_preimage"] == preimage
    assert listed(node, unique)["status"] == "paid"


def with_payment_secret(bolt11: str, secret: str) -> str:
    """The invoice with another payment secret, under a signature of nobody's."""
    invoice = decode(bolt11)
    for tag in invoice.tags:
        if tag.char == TagChar.payment_secret:
            tag.data = secret
        if tag.char in (TagChar.expire_time, TagChar.min_final_cltv_expiry):
            tag.data = int(tag.data)
    invoice.signature = None
    return str(encode(invoice, private_key="01" * 32))


def test_resolve_pays_without_an_invoice(shared_recorded: Recorded, unique: str) -> None:
    """The node's own invoice stays unpaid, and nobody is notified."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique)
    shared_recorded.behave("htlc_accepted", {"result": "resolve", "payment_key": invoice["preimage"]})
    paid = network.pay(invoice["bolt11"])

    assert paid["payment_preimage"] == invoice["preimage"]
    assert listed(node, unique)["status"] == "unpaid"
    assert not [e for e in shared_recorded.about(unique) if e[:2] == ["hook", "invoice_payment"]]


def test_wrong_preimage_fails_safely(shared_recorded: Recorded, unique: str) -> None:
    """resolve with anything but the preimage gives the money back."""
    shared_recorded.behave("htlc_accepted", {"result": "resolve", "payment_key": "00" * 32})
    with pytest.raises(PaymentFailed):
        shared_recorded.network.pay(create(shared_recorded.node, unique)["bolt11"])

    assert listed(shared_recorded.node, unique)["status"] == "unpaid"
