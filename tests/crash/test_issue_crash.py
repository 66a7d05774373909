"""The plugin dies at every named point of creating, issuing and being paid; nothing is lost, invented or doubled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cln_paycodes import crash
from network import ConnectionLost, Network, PaymentFailed
from network.daemon import poll_until
from pyln.client import RpcError

CREATE_POINTS = ("create:recorded", "create:mirrored")
ISSUE_POINTS = ("issue:reserved", "issue:called", "issue:issued")
PAY_POINTS = ("hook:intent", "hook:answered", "paid:asked", "paid:recorded")


@pytest.fixture
def die_at(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Arm one point: the plugin dies at it once, after so many passes, then `revive` starts it again."""

    def arm(point: str, *, after: int = 0) -> None:
        assert point in crash.POINTS
        monkeypatch.setenv("PAYCODES_CRASH_AT", point)
        monkeypatch.setenv("PAYCODES_CRASH_SKIP", str(after))
        monkeypatch.setenv("PAYCODES_CRASH_ONCE", str(tmp_path / "died"))
        network.merchant.restart()

    return arm


def revive(network: Network, tmp_path: Path) -> None:
    """Wait until the plugin is dead, then start it as the operator would."""
    poll_until((tmp_path / "died").exists, 30.0, "the plugin did not reach its crash point")

    def started() -> bool:
        try:
            network.merchant.start_plugin()
        except RpcError:
            return False
        return True

    poll_until(started, 30.0, "the plugin did not start again")


def agree(network: Network) -> dict[str, Any]:
    report = network.merchant.call("reconcile", full=True)
    assert report["agree"], report
    return report


def ask_twice(network: Network, tmp_path: Path, *, index: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """An invoice whose issue is cut off, as the caller gets it by its idempotency key once the plugin is back; one that
    is asked for after it; and the first again, once it is paid at that index and books and node agree.
    """
    order = {"paycode": "coffee", "amount_msat": 21000, "idempotency_key": "order"}
    with pytest.raises(RpcError):
        network.merchant.call("paycode-invoice", **order)
    revive(network, tmp_path)
    again = network.merchant.call("paycode-invoice", **order)
    other = network.merchant.call("paycode-invoice", "coffee", 21000)
    network.pay(again["bolt11"])
    paid = network.merchant.call("paycode-wait", "coffee", index, "paid", 30)
    agree(network)
    return again, other, paid


@pytest.mark.parametrize("point", CREATE_POINTS)
def test_paycode_survives_death_while_it_is_created(network: Network, tmp_path: Path, die_at: Any, point: str) -> None:
    """A code whose creation was cut off exists once, in sidecar and datastore, when the caller asks again."""
    die_at(point)
    with pytest.raises(RpcError):
        network.merchant.call("paycode-create", "coffee", "One coffee")
    revive(network, tmp_path)
    again = network.merchant.call("paycode-create", "coffee", "One coffee")
    stored = network.merchant.call("listdatastore", key=["paycodes", "code"])["datastore"]
    agree(network)

    assert again["created"] is False
    assert [entry["key"][-1] for entry in stored] == [again["paycode_id"]]
    assert network.merchant.call("paycode-invoice", "coffee", 1000)["index"] == 1


@pytest.mark.parametrize("point", ISSUE_POINTS)
def test_invoice_survives_death_while_it_is_issued(network: Network, tmp_path: Path, die_at: Any, point: str) -> None:
    """A caller that repeats its idempotency key gets index 1, issued by the node, whatever step was cut off."""
    network.merchant.call("paycode-create", "coffee", "One coffee")
    die_at(point)
    again, other, paid = ask_twice(network, tmp_path, index=1)

    assert (again["index"], again["status"]) == (1, "issued")
    assert other["index"] == 2
    assert paid["status"] == "paid"
    assert len(network.merchant.call("listinvoices")["invoices"]) == 2


@pytest.mark.parametrize("point", ISSUE_POINTS)
def test_invoice_in_a_row_survives_death_while_it_is_issued(
    network: Network, tmp_path: Path, die_at: Any, point: str
) -> None:
    """The ninth of invoices that are made in a row, and quickly, is cut off: asked for again, it is the ninth."""
    network.merchant.call("paycode-create", "coffee", "One coffee")
    die_at(point, after=8)
    for _ in range(8):
        network.merchant.call("paycode-invoice", "coffee", 21000)
    again, other, paid = ask_twice(network, tmp_path, index=9)

    assert (again["index"], again["status"]) == (9, "issued")
    assert other["index"] == 10
    assert paid["status"] == "paid"
    assert len(network.merchant.call("listinvoices")["invoices"]) == 10


@pytest.mark.parametrize("point", ISSUE_POINTS)
def test_start_repairs_an_issue_that_no_one_asks_about_again(
    network: Network, tmp_path: Path, die_at: Any, point: str
) -> None:
    """Without anyone asking again, the start alone brings the cut-off invoice to `issued` at node and books."""
    network.merchant.call("paycode-create", "coffee", "One coffee")
    die_at(point)
    with pytest.raises(RpcError):
        network.merchant.call("paycode-invoice", "coffee", 21000)
    revive(network, tmp_path)
    issued = network.merchant.call("paycode-wait", "coffee", 1, "issued", 30)
    agree(network)

    known = network.merchant.call("listinvoices", label=issued["label"])["invoices"]
    assert [entry["payment_hash"] for entry in known] == [issued["payment_hash"]]
    assert network.merchant.call("listpaycodes")["paycodes"][0]["next_index"] == 2


@pytest.mark.parametrize("point", PAY_POINTS)
def test_payment_survives_death_of_the_plugin(network: Network, tmp_path: Path, die_at: Any, point: str) -> None:
    """The payer's money arrives, the books say paid, and there is exactly one event, whatever step was cut off."""
    network.merchant.call("paycode-create", "coffee", "One coffee")
    die_at(point)
    invoice = network.merchant.call("paycode-invoice", "coffee", 21000)
    network.pay(invoice["bolt11"])
    revive(network, tmp_path)
    paid = network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)
    agree(network)
    events = network.merchant.call("listoutbox", type="invoice.paid")["events"]

    assert paid["received_msat"] == 21000
    assert [event["data"]["payment_hash"] for event in events] == [invoice["payment_hash"]]


@pytest.mark.parametrize("point", PAY_POINTS)
def test_payment_survives_death_of_the_node_with_the_plugin(
    network: Network, tmp_path: Path, die_at: Any, point: str
) -> None:
    """Plugin and node are both killed around the payment: it ends paid at both, once, or is still open at both."""
    network.merchant.call("paycode-create", "coffee", "One coffee")
    die_at(point)
    invoice = network.merchant.call("paycode-invoice", "coffee", 21000)
    payment = network.pay_in_background(invoice["bolt11"])
    poll_until((tmp_path / "died").exists, 30.0, "the plugin did not reach its crash point")
    network.merchant.kill()
    network.merchant.start()
    try:
        payment.result(60)
        arrived = True
    except (PaymentFailed, ConnectionLost):
        arrived = False
    if arrived:
        network.merchant.call("paycode-wait", "coffee", 1, "paid", 30)
    agree(network)
    (entry,) = network.merchant.call("listinvoices", label=invoice["label"])["invoices"]
    (row,) = network.merchant.call("listpaycodeinvoices", "coffee")["invoices"]
    events = network.merchant.call("listoutbox", type="invoice.paid")["events"]

    assert (entry["status"] == "paid") == arrived
    assert (row["status"] == "paid") == arrived
    assert len(events) == arrived
