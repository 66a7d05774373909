"""Held invoices: the operator settles or cancels each payment, and nobody else does, whatever dies meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from network import Network, Node, PaymentFailed
from network.daemon import poll_until
from recording import code_of

pytestmark = pytest.mark.actions

AMOUNT = 40000


def held_invoice(node: Node, label: str) -> dict[str, Any]:
    node.call("paycode-create", label=label, hold=True)
    invoice: dict[str, Any] = node.call("paycode-invoice", label, AMOUNT)
    return invoice


def wait_held(node: Node, invoice: dict[str, Any]) -> dict[str, Any]:
    """The hold, once all parts of the payment have arrived."""

    def found() -> list[dict[str, Any]]:
        return [h for h in node.call("listholds")["holds"] if h["payment_hash"] == invoice["payment_hash"]]

    poll_until(lambda: bool(found()), 30.0, "the payment was not held")
    return found()[0]


def status_of(node: Node, invoice: dict[str, Any]) -> str:
    (row,) = node.call("listpaycodeinvoices", payment_hash=invoice["payment_hash"])["invoices"]
    return str(row["status"])


def events_of(node: Node, invoice: dict[str, Any]) -> list[dict[str, Any]]:
    events = node.call("listoutbox", limit=1000)["events"]
    return [event for event in events if event["data"].get("payment_hash") == invoice["payment_hash"]]


def test_held_payment_is_settled_by_the_operator(shared_network: Network, unique: str) -> None:
    """Told with its deadline, unknown to the node until then, paid like any other afterwards; twice is once."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    payment = shared_network.pay_in_background(invoice["bolt11"], parts=3)
    hold = wait_held(merchant, invoice)
    at_node = merchant.call("listinvoices", label=invoice["label"])["invoices"]
    settled = merchant.call("hold-settle", invoice["payment_hash"])
    again = merchant.call("hold-settle", invoice["payment_hash"])
    answer = payment.result(30)
    (entry,) = merchant.call("listinvoices", label=invoice["label"])["invoices"]
    told = {event["type"]: event["data"] for event in events_of(merchant, invoice)}

    assert (hold["status"], hold["amount_msat"], hold["parts"]) == ("accepted", AMOUNT, 3)
    assert at_node == []
    assert (settled["status"], again["status"]) == ("paid", "paid")
    assert (entry["status"], entry["payment_preimage"]) == ("paid", answer["payment_preimage"])
    assert sorted(told) == ["hold.accepted", "hold.settled", "invoice.paid"]
    assert told["hold.accepted"]["claim_deadline_height"] == hold["claim_deadline_height"]
    assert code_of(merchant, "hold-cancel", invoice["payment_hash"]) == 3108
    assert [h for h in merchant.call("listholds")["holds"] if h["payment_hash"] == invoice["payment_hash"]] == []


def test_held_payment_is_canceled_by_the_operator(shared_network: Network, unique: str) -> None:
    """The payer gets it back, the operator is told, and settling is too late."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    payment = shared_network.pay_in_background(invoice["bolt11"], parts=2)
    wait_held(merchant, invoice)
    canceled = merchant.call("hold-cancel", invoice["payment_hash"])
    again = merchant.call("hold-cancel", invoice["payment_hash"])
    with pytest.raises(PaymentFailed):
        payment.result(30)

    assert (canceled["status"], again["status"]) == ("canceled", "canceled")
    assert sorted(event["type"] for event in events_of(merchant, invoice)) == ["hold.accepted", "hold.canceled"]
    assert merchant.call("listinvoices", label=invoice["label"])["invoices"] == []
    assert code_of(merchant, "hold-settle", invoice["payment_hash"]) == 3108
    assert merchant.call("reconcile", full=True)["agree"] is True


def test_hold_commands_name_what_is_wrong(shared_network: Network, unique: str) -> None:
    """A hash that nobody pays is no hold, before and after it is issued."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)

    for method in ("hold-settle", "hold-cancel"):
        assert code_of(merchant, method, invoice["payment_hash"]) == 3107
        assert code_of(merchant, method, "not a hash") == -32602
    assert merchant.call("listholds", invoice["payment_hash"]) == {"holds": []}


def test_plugin_that_dies_gives_held_payments_back(network: Network) -> None:
    """What it parked fails back to the payer, the books say so and tell it, and the code stays payable."""
    merchant = network.merchant
    invoice = held_invoice(merchant, "held")
    payment = network.pay_in_background(invoice["bolt11"], parts=2)
    wait_held(merchant, invoice)
    merchant.kill_plugin()
    with pytest.raises(PaymentFailed):
        payment.result(30)
    merchant.start_plugin()
    poll_until(lambda: status_of(merchant, invoice) == "canceled", 30.0, "the hold was not canceled")
    (canceled,) = [event for event in events_of(merchant, invoice) if event["type"] == "hold.canceled"]
    fresh = merchant.call("paycode-invoice", "held", AMOUNT)
    second = network.pay_in_background(fresh["bolt11"])
    wait_held(merchant, fresh)
    merchant.call("hold-settle", fresh["payment_hash"])

    assert "payer has it back" in canceled["data"]["reason"]
    assert second.result(30)["payment_preimage"]
    assert status_of(merchant, fresh) == "paid"


def test_hold_survives_a_restart_of_the_node(network: Network) -> None:
    """The node offers the same HTLCs again, and they are the same hold, to be settled or canceled."""
    merchant = network.merchant
    merchant.call("paycode-create", label="held", hold=True)
    invoices = [merchant.call("paycode-invoice", "held", AMOUNT) for _ in range(2)]
    payments = [network.pay_in_background(invoice["bolt11"], parts=2) for invoice in invoices]
    before = [wait_held(merchant, invoice) for invoice in invoices]
    merchant.kill()
    merchant.start()
    after = [wait_held(merchant, invoice) for invoice in invoices]
    merchant.call("hold-settle", invoices[0]["payment_hash"])
    merchant.call("hold-cancel", invoices[1]["payment_hash"])
    settled = payments[0].result(60)
    with pytest.raises(PaymentFailed):
        payments[1].result(60)

    assert [h | {"age": 0} for h in after] == [h | {"age": 0} for h in before]
    assert settled["payment_preimage"]
    assert [status_of(merchant, invoice) for invoice in invoices] == ["paid", "canceled"]


def test_hold_that_nobody_answers_is_canceled_before_its_deadline(network: Network) -> None:
    """Blocks before the channel would have to be closed the payer gets it back, and settling is refused."""
    merchant = network.merchant
    invoice = held_invoice(merchant, "held")
    payment = network.pay_in_background(invoice["bolt11"])
    hold = wait_held(merchant, invoice)
    height = merchant.call("getinfo")["blockheight"]
    network.mine(hold["claim_deadline_height"] - height - 1)
    still = merchant.call("listholds", invoice["payment_hash"])["holds"][0]["status"]
    warnings = merchant.call("getpaycodesinfo")["warnings"]
    network.mine(1)
    with pytest.raises(PaymentFailed):
        payment.result(60)
    poll_until(lambda: status_of(merchant, invoice) == "canceled", 30.0, "the hold was not canceled")

    assert still == "accepted"
    assert [text for text in warnings if invoice["payment_hash"] in text] != []
    assert code_of(merchant, "hold-settle", invoice["payment_hash"]) == 3108
