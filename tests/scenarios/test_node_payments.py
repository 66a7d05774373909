"""What a payment looks like to the plugin of the node that receives it, on every kind of node."""

from __future__ import annotations

import hashlib

import pytest
from network import Network, PaymentFailed
from network.daemon import poll_until
from recording import Recorded, create, listed, wait_until_in_hook

UNKNOWN_DETAILS = "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"


def test_payment_goes_through_hooks_then_settles_then_notifies(shared_recorded: Recorded, unique: str) -> None:
    """htlc_accepted, then invoice_payment while the invoice is unpaid, then the notification."""
    node = shared_recorded.node
    invoice = create(node, unique)
    paid = shared_recorded.network.pay(invoice["bolt11"])
    shared_recorded.wait_for("notification", "invoice_payment", unique)
    seen = [e for e in shared_recorded.entries() if invoice["payment_hash"] in str(e) or unique in str(e)]

    assert paid["payment_preimage"] == invoice["preimage"]
    assert [entry[:2] for entry in seen] == [
        ["notification", "invoice_creation"],
        ["hook", "htlc_accepted"],
        ["hook", "invoice_payment"],
        ["notification", "invoice_payment"],
    ]
    hook, notification = seen[2][2], seen[3][2]
    # "extratlvs" is there when lightningd runs as a developer's.
    payment = {name: value for name, value in hook["payment"].items() if name != "extratlvs"}
    assert payment == {"label": unique, "preimage": invoice["preimage"], "msat": 1000}
    assert hook["status"] == "unpaid"
    assert notification == {
        "jsonrpc": "2.0",
        "method": "invoice_payment",
        "params": {
            "invoice_payment": {"msat": 1000, "preimage": invoice["preimage"], "label": unique},
        },
    }


def test_creation_is_notified_with_the_preimage(shared_recorded: Recorded, unique: str) -> None:
    """msat is absent for any amount."""
    node = shared_recorded.node
    fixed = create(node, unique + "/fixed")
    open_ = create(node, unique + "/any", "any")
    noted = [n["params"] for n in shared_recorded.wait_for("notification", "invoice_creation", unique, 2)]

    assert noted == [
        {"invoice_creation": {"msat": 1000, "preimage": fixed["preimage"], "label": unique + "/fixed"}},
        {"invoice_creation": {"preimage": open_["preimage"], "label": unique + "/any"}},
    ]


def test_paid_invoice_has_its_marks(shared_recorded: Recorded, unique: str) -> None:
    """Preimage, pay_index, amount, time and updated_index appear; each index is one beyond the last."""
    node = shared_recorded.node
    rows = []
    for label in (unique + "/1", unique + "/2"):
        shared_recorded.network.pay(create(node, label)["bolt11"])
        rows.append(listed(node, label))

    first, second = rows
    assert set(second) == {
        "label",
        "bolt11",
        "payment_hash",
        "amount_msat",
        "status",
        "pay_index",
        "amount_received_msat",
        "paid_at",
        "payment_preimage",
        "description",
        "expires_at",
        "created_index",
        "updated_index",
    }
    assert second["status"] == "paid"
    assert second["pay_index"] == first["pay_index"] + 1
    assert second["updated_index"] == first["updated_index"] + 1
    digest = hashlib.sha256(bytes.fromhex(second["payment_preimage"])).hexdigest()
    assert digest == second["payment_hash"]


def test_pages_by_updated_index(shared_recorded: Recorded, unique: str) -> None:
    """From 1 on only what was updated, in the order of the updates; from 0 on what never was as well."""
    node = shared_recorded.node
    invoices = [create(node, f"{unique}/{i}") for i in range(3)]
    for number in (2, 0):
        shared_recorded.network.pay(invoices[number]["bolt11"])
    start = listed(node, f"{unique}/2")["updated_index"]
    page = node.call("listinvoices", index="updated", start=start, limit=5)["invoices"]
    everything = node.call("listinvoices", index="updated", start=0)["invoices"]
    updated = node.call("listinvoices", index="updated", start=1)["invoices"]

    assert [invoice["label"] for invoice in page] == [f"{unique}/2", f"{unique}/0"]
    assert f"{unique}/1" in [invoice["label"] for invoice in everything]
    assert f"{unique}/1" not in [invoice["label"] for invoice in updated]


def test_htlc_accepted_payload(shared_recorded: Recorded, unique: str) -> None:
    """Everything a plugin needs to hold or release a part; the final hop names no next channel."""
    node = shared_recorded.node
    invoice = create(node, unique)
    shared_recorded.network.pay(invoice["bolt11"])
    [seen] = shared_recorded.wait_for("hook", "htlc_accepted", invoice["payment_hash"])
    onion, htlc = seen["onion"], seen["htlc"]

    assert set(seen) == {"peer_id", "onion", "htlc"}
    assert set(onion) == {
        "payload",
        "type",
        "forward_msat",
        "outgoing_cltv_value",
        "total_msat",
        "payment_secret",
        "next_onion",
        "shared_secret",
    }
    assert set(htlc) == {
        "short_channel_id",
        "id",
        "amount_msat",
        "cltv_expiry",
        "cltv_expiry_relative",
        "payment_hash",
    }
    assert onion["type"] == "tlv"
    assert onion["total_msat"] == onion["forward_msat"] == htlc["amount_msat"] == 1000
    assert onion["payment_secret"] == invoice["payment_secret"]
    assert htlc["cltv_expiry"] - htlc["cltv_expiry_relative"] == node.call("getinfo")["blockheight"]
    payload = bytes.fromhex(onion["payload"])
    assert payload[0] == len(payload) - 1
    assert bytes.fromhex(invoice["payment_secret"]) in payload


def test_parts_are_accepted_one_by_one_and_paid_once(shared_recorded: Recorded, unique: str) -> None:
    """htlc_accepted for each part, with the same total; invoice_payment for the set."""
    node = shared_recorded.node
    invoice = create(node, unique, 1001)
    shared_recorded.network.pay(invoice["bolt11"], parts=3)
    parts = shared_recorded.wait_for("hook", "htlc_accepted", invoice["payment_hash"], 3)
    [paid] = shared_recorded.wait_for("hook", "invoice_payment", unique)

    assert sorted(part["htlc"]["amount_msat"] for part in parts) == [333, 334, 334]
    assert {part["onion"]["total_msat"] for part in parts} == {1001}
    assert len({(part["htlc"]["short_channel_id"], part["htlc"]["id"]) for part in parts}) == 3
    assert paid["payment"]["msat"] == 1001
    assert listed(node, unique)["amount_received_msat"] == 1001


@pytest.mark.parametrize("amount", [1000, 1700, 2000])
def test_up_to_twice_the_amount_is_taken(shared_recorded: Recorded, unique: str, amount: int) -> None:
    """What arrived is what the node says was received."""
    node = shared_recorded.node
    shared_recorded.network.pay(create(node, unique)["bolt11"], amount_msat=amount)

    assert listed(node, unique)["amount_received_msat"] == amount
    assert listed(node, unique)["amount_msat"] == 1000


@pytest.mark.parametrize("amount", [999, 2001])
def test_wrong_amount_fails(shared_recorded: Recorded, unique: str, amount: int) -> None:
    """Before the invoice_payment hook; the invoice stays unpaid."""
    node = shared_recorded.node
    with pytest.raises(PaymentFailed) as raised:
        shared_recorded.network.pay(create(node, unique)["bolt11"], amount_msat=amount)

    assert raised.value.code == 203
    assert raised.value.data["failcodename"] == UNKNOWN_DETAILS
    assert listed(node, unique)["status"] == "unpaid"
    assert not [e for e in shared_recorded.about(unique) if e[:2] == ["hook", "invoice_payment"]]


def test_any_amount_takes_what_comes(shared_recorded: Recorded, unique: str) -> None:
    """amount_received_msat says how much."""
    node = shared_recorded.node
    shared_recorded.network.pay(create(node, unique, "any")["bolt11"], amount_msat=4321)

    assert listed(node, unique)["amount_received_msat"] == 4321
    assert "amount_msat" not in listed(node, unique)


def test_paid_invoice_is_not_paid_again(shared_recorded: Recorded, unique: str) -> None:
    """Whoever tries keeps the money."""
    node, network = shared_recorded.node, shared_recorded.network
    bolt11 = create(node, unique)["bolt11"]
    network.pay(bolt11)
    before = listed(node, unique)
    with pytest.raises(PaymentFailed):
        network.pay(bolt11)

    assert listed(node, unique) == before


def test_expired_and_deleted_invoices_cannot_be_paid(shared_recorded: Recorded, unique: str) -> None:
    """A wallet may see the expiry itself (207); the node says 203 for what it does not take."""
    node, network = shared_recorded.node, shared_recorded.network
    expired = create(node, unique + "/1", expiry=1)["bolt11"]
    deleted = create(node, unique + "/2")["bolt11"]
    node.call("delinvoice", unique + "/2", "unpaid")
    poll_until(lambda: listed(node, unique + "/1")["status"] == "expired", 15, "it does not expire")
    codes = []
    for bolt11 in (expired, deleted):
        with pytest.raises(PaymentFailed) as raised:
            network.pay(bolt11)
        codes.append(raised.value.code)

    assert codes[0] in (203, 207)
    assert codes[1] == 203


def test_reject_fails_the_payment(shared_recorded: Recorded, unique: str) -> None:
    """The payer is told nothing but that the details are wrong; the next try is a new one."""
    node, network = shared_recorded.node, shared_recorded.network
    bolt11 = create(node, unique)["bolt11"]
    shared_recorded.behave("invoice_payment", {"result": "reject"})
    with pytest.raises(PaymentFailed) as raised:
        network.pay(bolt11, parts=2)
    status = listed(node, unique)["status"]
    network.pay(bolt11)

    assert raised.value.data["failcodename"] == UNKNOWN_DETAILS
    assert status == "unpaid"
    assert listed(node, unique)["status"] == "paid"


def test_continue_is_no_confirmation(shared_recorded: Recorded, unique: str) -> None:
    """An invoice that is deleted while the hook thinks is not paid."""
    node, network = shared_recorded.node, shared_recorded.network
    shared_recorded.behave("invoice_payment", "hold")
    payment = network.pay_in_background(create(node, unique)["bolt11"])
    wait_until_in_hook(shared_recorded, "invoice_payment", unique)
    node.call("delinvoice", unique, "unpaid")
    node.call("recorder-release", hook="invoice_payment", answer={"result": "continue"})

    with pytest.raises(PaymentFailed):
        payment.result(30)
    assert not [e for e in shared_recorded.about(unique) if e[:2] == ["notification", "invoice_payment"]]


def test_mined_blocks_are_seen(shared_recorded: Recorded) -> None:
    """The height in getinfo follows the chain."""
    network: Network = shared_recorded.network
    before = network.merchant.call("getinfo")["blockheight"]
    height = network.mine(2)

    assert height == before + 2
    assert network.merchant.call("getinfo")["blockheight"] == height
