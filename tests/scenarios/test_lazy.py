"""Lazy invoices: the node learns of one at its first HTLC, and treats it like any other from then on."""

from __future__ import annotations

import time
from typing import Any

import bolt11
import pytest
from cln_paycodes.core.terms import SUPPLY_MSAT
from network import Network, Node, PaymentFailed
from network.daemon import poll_until
from pyln.client import RpcError
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


def test_lazy_invoice_that_the_node_does_not_sign_is_void(shared_network: Network, unique: str) -> None:
    """Its index is spent, and it holds no place among the unpaid ones."""
    merchant = shared_network.merchant
    lazy_code(merchant, unique, max_pending=1)
    if shared_network.supports_faults:
        shared_network.fault("signinvoice", "refuse")
    with pytest.raises(RpcError) as refused:
        merchant.call("paycode-invoice", unique, SUPPLY_MSAT)  # lightningd cannot read so much
    fresh = merchant.call("paycode-invoice", unique, 5000)
    rows = merchant.call("listpaycodeinvoices", unique)["invoices"]

    assert refused.value.error["code"] == 3111
    assert [(row["index"], row["status"]) for row in rows] == [(1, "void"), (fresh["index"], "issued")]


def lose_sidecar(node: Node) -> None:
    """The file is deleted while the plugin is down."""
    node.stop_plugin()
    for path in node.network_dir.glob("paycodes.sqlite3*"):
        path.unlink()
    node.start_plugin()


@pytest.mark.parametrize("terms", [{"issue": "lazy"}, {"hold": True}], ids=["lazy", "held"])
def test_room_for_another_when_one_expires_that_the_node_never_knew(
    shared_network: Network, unique: str, terms: dict[str, Any]
) -> None:
    """Nothing happens at the node then, and yet `max_pending` and the backend hear of it long before the interval."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", label=unique, max_pending=1, expiry=1, **terms)
    invoice = merchant.call("paycode-invoice", unique, 1000)
    full = code_of(merchant, "paycode-invoice", unique, 1000)
    poll_until(lambda: in_books(merchant, invoice)["status"] == "expired", 30.0, "it is not seen to be over")
    told = merchant.call("listoutbox", type="invoice.expired", limit=1000)["events"]

    assert full == 3106
    assert invoice["payment_hash"] in {event["data"]["payment_hash"] for event in told}
    assert merchant.call("paycode-invoice", unique, 1000)["status"] == "issued"


def test_lazy_invoice_is_paid_after_the_sidecar_was_lost(network: Network) -> None:
    """Neither books nor node know it, only its payer: found by its hash, accepted, told; no index is reused."""
    merchant = network.merchant
    lazy_code(merchant, "tips", min_msat=1000)
    paid_before, open_before = (merchant.call("paycode-invoice", "tips", amount) for amount in (5000, 7000))
    later = merchant.call("paycode-invoice", "tips", 900_000)
    network.pay(paid_before["bolt11"])
    wait_paid(merchant, paid_before)
    lose_sidecar(merchant)
    network.pay(open_before["bolt11"], parts=2)
    first = wait_paid(merchant, open_before)
    report = merchant.call("reconcile", full=True)
    network.pay(later["bolt11"])
    second = wait_paid(merchant, later)
    fresh = merchant.call("paycode-invoice", "tips", 3000)
    events = merchant.call("listoutbox", type="invoice.paid")["events"]

    assert (first["index"], first["received_msat"], first["amount_msat"]) == (2, 7000, 7000)
    assert (second["index"], second["received_msat"]) == (3, 900_000)
    assert report["agree"] is True
    assert sorted(event["data"]["index"] for event in events) == [1, 2, 3]
    assert fresh["index"] > 3
    assert merchant.call("reconcile", full=True)["agree"] is True


def test_held_invoice_is_held_after_the_sidecar_was_lost(network: Network) -> None:
    """What the operator has to agree to is never settled unasked, not even then."""
    merchant = network.merchant
    merchant.call("paycode-create", label="held", hold=True)
    invoice = merchant.call("paycode-invoice", "held", 7000)
    lose_sidecar(merchant)
    payment = network.pay_in_background(invoice["bolt11"])
    poll_until(lambda: bool(merchant.call("listholds")["holds"]), 30.0, "the payment was not held")
    (hold,) = merchant.call("listholds")["holds"]
    merchant.call("hold-settle", hold["payment_hash"])

    assert (hold["payment_hash"], hold["amount_msat"]) == (invoice["payment_hash"], 7000)
    assert payment.result(30)["payment_preimage"]


def test_amount_below_the_codes_minimum_is_refused_after_the_sidecar_was_lost(network: Network) -> None:
    """The amount of a lost invoice is not known: what the code would never ask for is not taken."""
    merchant = network.merchant
    lazy_code(merchant, "tips", min_msat=5000)
    invoice = merchant.call("paycode-invoice", "tips", 6000)
    lose_sidecar(merchant)
    with pytest.raises(PaymentFailed):
        network.pay(invoice["bolt11"], amount_msat=4999)

    assert merchant.call("listinvoices")["invoices"] == []


def test_restored_sidecar_takes_payments_of_what_it_never_saw(network: Network) -> None:
    """An older backup of the sidecar: what was handed out after it is accepted, and none of its indexes is reused."""
    merchant = network.merchant
    lazy_code(merchant, "tips")
    merchant.call("paycode-invoice", "tips", 1000)
    merchant.stop_plugin()
    backup = {path: path.read_bytes() for path in merchant.network_dir.glob("paycodes.sqlite3*")}
    merchant.start_plugin()
    unseen = merchant.call("paycode-invoice", "tips", 2000)
    merchant.stop_plugin()
    for path in merchant.network_dir.glob("paycodes.sqlite3*"):
        path.unlink()
    for path, content in backup.items():
        path.write_bytes(content)
    merchant.start_plugin()
    fresh = merchant.call("paycode-invoice", "tips", 3000)
    network.pay(unseen["bolt11"])
    paid = wait_paid(merchant, unseen)

    assert fresh["index"] > unseen["index"]
    assert (paid["index"], paid["received_msat"]) == (unseen["index"], 2000)
