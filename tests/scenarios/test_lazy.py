"""Lazy invoices: the node learns of one at its first HTLC, and treats it like any other from then on."""

from __future__ import annotations

import time
from typing import Any

import bolt11
import pytest
from network import Network, Node, PaymentFailed
from network.daemon import poll_until
from recording import code_of


def lazy_code(node: Node, label: str, **terms: Any) -> dict[str, Any]:
    made: dict[str, Any] = node.call("paycode-create", label=label, issue="lazy", **terms)
    return made


def at_node(node: Node, invoice: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = node.call("listinvoices", label=invoice["label"])["invoices"]
    return found


def in_books(node: Node, invoice: dict[str, Any]) -> dict[str, Any]:
    (row,) = node.call("listpaycodeinvoices", payment_hash=invoice["payment_hash"])["invoices"]
    return dict(row)


def wait_paid(node: Node, invoice: dict[str, Any]) -> dict[str, Any]:
    paid: dict[str, Any] = node.call("paycode-wait", invoice["paycode_id"], invoice["index"], "paid", 30)
    return paid


def test_lazy_invoice_is_unknown_to_the_node_until_it_is_paid(shared_network: Network, unique: str) -> None:
    """The string that the payer gets is the books' for ever; the node lists the invoice as paid like any other."""
    merchant = shared_network.merchant
    lazy_code(merchant, unique, description="One coffee")
    invoice = merchant.call("paycode-invoice", unique, 21000)
    before = at_node(merchant, invoice)
    decoded = bolt11.decode(invoice["bolt11"])
    paid = shared_network.pay(invoice["bolt11"])
    row = wait_paid(merchant, invoice)
    (entry,) = at_node(merchant, invoice)
    (event,) = [e for e in merchant.call("listoutbox", limit=1000)["events"] if e["data"].get("label") == row["label"]]

    assert before == []
    assert (decoded.payment_hash, decoded.amount_msat, decoded.description) == (
        invoice["payment_hash"],
        21000,
        "One coffee",
    )
    assert (invoice["index"], invoice["status"]) == (1, "issued")
    assert (entry["status"], entry["payment_hash"], entry["payment_preimage"]) == (
        "paid",
        invoice["payment_hash"],
        paid["payment_preimage"],
    )
    assert (row["status"], row["received_msat"], row["bolt11"]) == ("paid", 21000, invoice["bolt11"])
    assert (event["type"], event["data"]["payment_hash"]) == ("invoice.paid", invoice["payment_hash"])
    assert merchant.call("reconcile", full=True)["agree"] is True


def test_parts_that_arrive_together_register_one_invoice(shared_network: Network, unique: str) -> None:
    """HTLCs that race to be the first all settle."""
    merchant = shared_network.merchant
    lazy_code(merchant, unique)
    for _ in range(5):
        invoice = merchant.call("paycode-invoice", unique, 30000)
        shared_network.pay(invoice["bolt11"], parts=6)
        paid = wait_paid(merchant, invoice)

        assert paid["received_msat"] == 30000
        assert len(at_node(merchant, invoice)) == 1


def test_amount_that_is_too_small_or_too_large_registers_nothing(shared_network: Network, unique: str) -> None:
    """A payer who sends less, or more than twice as much, gets it back, and the invoice stays payable."""
    merchant = shared_network.merchant
    lazy_code(merchant, unique)
    invoice = merchant.call("paycode-invoice", unique, 10000)
    for wrong in (9999, 20001):
        with pytest.raises(PaymentFailed):
            shared_network.pay(invoice["bolt11"], amount_msat=wrong)
    after_wrong = at_node(merchant, invoice)
    shared_network.pay(invoice["bolt11"], amount_msat=20000)

    assert after_wrong == []
    assert wait_paid(merchant, invoice)["received_msat"] == 20000


def test_second_payment_of_a_paid_lazy_invoice_fails(shared_network: Network, unique: str) -> None:
    """An invoice is paid once."""
    merchant = shared_network.merchant
    lazy_code(merchant, unique)
    invoice = merchant.call("paycode-invoice", unique, 10000)
    shared_network.pay(invoice["bolt11"], amount_msat=10000)
    wait_paid(merchant, invoice)
    with pytest.raises(PaymentFailed):
        shared_network.pay(invoice["bolt11"], amount_msat=10001)

    assert wait_paid(merchant, invoice)["received_msat"] == 10000


def test_expired_lazy_invoice_is_told_and_takes_no_payment(shared_network: Network, unique: str) -> None:
    """Past its time it is `expired` in the books, though the node never knew it, and a late payment goes back."""
    merchant = shared_network.merchant
    lazy_code(merchant, unique, expiry=1)
    invoice = merchant.call("paycode-invoice", unique, 10000)
    expires_at = invoice["expires_at"]
    poll_until(lambda: time.time() > expires_at + 3, 30.0, "the clock stands still")
    with pytest.raises(PaymentFailed):
        shared_network.pay(invoice["bolt11"], amount_msat=10000)
    report = merchant.call("reconcile")

    assert in_books(merchant, invoice)["status"] == "expired"
    assert at_node(merchant, invoice) == []
    assert report["agree"] is True
    assert report["missing"] == 0


def test_disabled_code_still_takes_what_it_has_handed_out(shared_network: Network, unique: str) -> None:
    """As with eager invoices: a disabled code makes no new ones."""
    merchant = shared_network.merchant
    lazy_code(merchant, unique)
    invoice = merchant.call("paycode-invoice", unique, 10000)
    merchant.call("paycode-disable", unique)
    shared_network.pay(invoice["bolt11"])

    assert code_of(merchant, "paycode-invoice", unique, 10000) == 3103
    assert wait_paid(merchant, invoice)["status"] == "paid"


def test_open_lazy_invoice_is_no_finding(shared_network: Network, unique: str) -> None:
    """That the node does not have it is how it should be, also for a run over everything."""
    merchant = shared_network.merchant
    lazy_code(merchant, unique)
    invoice = merchant.call("paycode-invoice", unique, 10000)
    report = merchant.call("reconcile", full=True)

    assert (report["missing"], report["reissued"], report["agree"]) == (0, 0, True)
    assert in_books(merchant, invoice)["status"] == "issued"
    assert at_node(merchant, invoice) == []
