"""Plugin, or plugin and node, die at every point of a lazy or held payment: what becomes of the money is in a table.

The tables are those of `services/decisions.py` and `services/registration.py`; each row is a test.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cln_paycodes import crash
from network import ConnectionLost, Network, Node, PaymentFailed
from network.daemon import poll_until
from pyln.client import RpcError
from recording import code_of

AMOUNT = 40_000

PAID, CANCELED, OPEN = "paid", "canceled", "accepted"

#: Point, how often it is passed before, and the end when the plugin dies alone, and when the node dies with it.
Row = tuple[str, int, str, str]

SETTLE: list[Row] = [
    ("action:begun", 0, CANCELED, PAID),
    ("register:marked", 0, CANCELED, PAID),
    ("register:called", 0, PAID, PAID),
    ("action:stepped", 0, PAID, PAID),
    ("action:stored", 0, PAID, PAID),
    ("paid:asked", 0, PAID, PAID),  # before they are let go it is asked whether that was done already
    ("action:stepped", 1, PAID, PAID),
    ("action:stored", 1, PAID, PAID),
    ("settle:released", 0, PAID, PAID),
    ("hook:intent", 0, PAID, PAID),
    ("hook:answered", 0, PAID, PAID),
    ("paid:recorded", 0, PAID, PAID),
    ("action:ended", 0, PAID, PAID),
]
CANCEL: list[Row] = [
    ("action:begun", 0, CANCELED, CANCELED),
    ("cancel:failed", 0, CANCELED, CANCELED),
    ("action:stepped", 0, CANCELED, CANCELED),
    ("action:ended", 0, CANCELED, CANCELED),
]
#: A lazy payment: True when it arrives, False when the payer has it back.
LAZY: list[tuple[str, bool, bool]] = [
    ("register:marked", False, True),
    ("register:called", True, True),
    ("hook:intent", True, True),
    ("hook:answered", True, True),
    ("paid:asked", True, True),
    ("paid:recorded", True, True),
]

with_or_without_the_node = pytest.mark.parametrize("with_node", [False, True], ids=["plugin", "node"])


class Killed:
    """A network whose merchant dies at one point, once."""

    def __init__(self, network: Network, mark: Path, with_node: bool) -> None:
        self.network = network
        self.merchant: Node = network.merchant
        self._mark = mark
        self._with_node = with_node

    def revive(self) -> None:
        """Wait for the death, then start what died, as the operator would."""
        poll_until(self._mark.exists, 30.0, "the crash point was not reached")
        if self._with_node:
            self.merchant.wait_for_exit()
            self.merchant.start()
        else:
            poll_until(self._started, 30.0, "the plugin did not start again")

    def _started(self) -> bool:
        try:
            self.merchant.start_plugin()
        except RpcError:
            return False
        return True


@pytest.fixture
def die_at(module_network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Killed]:
    def arm(point: str, *, skip: int = 0, with_node: bool) -> Killed:
        assert point in crash.POINTS
        mark = tmp_path / "died"
        monkeypatch.setenv("PAYCODES_CRASH_AT", point)
        monkeypatch.setenv("PAYCODES_CRASH_SKIP", str(skip))
        monkeypatch.setenv("PAYCODES_CRASH_ONCE", str(mark))
        monkeypatch.setenv("PAYCODES_CRASH_NODE", "1" if with_node else "0")
        if module_network.merchant.is_running():
            poll_until(lambda: not actions_of(module_network.merchant), 30.0, "the last test's actions do not end")
            module_network.merchant.stop()
        module_network.merchant.start()
        return Killed(module_network, mark, with_node)

    return arm


def actions_of(node: Node) -> int:
    """How many are under way, which would pass crash points at the next start."""
    with closing(sqlite3.connect(node.network_dir / "paycodes.sqlite3")) as sidecar:
        return int(sidecar.execute("SELECT count(*) FROM actions").fetchone()[0])


def status_of(node: Node, invoice: dict[str, Any]) -> str:
    (row,) = node.call("listpaycodeinvoices", payment_hash=invoice["payment_hash"])["invoices"]
    return str(row["status"])


def wait_status(node: Node, invoice: dict[str, Any], status: str) -> None:
    poll_until(
        lambda: status_of(node, invoice) == status,
        30.0,
        f"it did not become {status}",
    )


def told_of(node: Node, invoice: dict[str, Any]) -> list[str]:
    events = node.call("listoutbox", limit=1000)["events"]
    return sorted(event["type"] for event in events if event["data"].get("payment_hash") == invoice["payment_hash"])


def at_node(node: Node, invoice: dict[str, Any]) -> list[str]:
    return [entry["status"] for entry in node.call("listinvoices", label=invoice["label"])["invoices"]]


def arrived(payment: Future[dict[str, Any]]) -> bool:
    """The payer's word."""
    try:
        payment.result(60)
    except (PaymentFailed, ConnectionLost):
        return False
    return True


def issue(node: Node, label: str, **terms: Any) -> dict[str, Any]:
    node.call("paycode-create", label=label, **terms)
    invoice: dict[str, Any] = node.call("paycode-invoice", label, AMOUNT)
    return invoice


def hold(network: Network, label: str, **terms: Any) -> tuple[dict[str, Any], Future[dict[str, Any]]]:
    """A held invoice, and its payment once it is all there."""
    invoice = issue(network.merchant, label, hold=True, **terms)
    payment = network.pay_in_background(invoice["bolt11"], parts=2)
    return invoice, payment


def require_end(network: Network, invoice: dict[str, Any], payment: Future[dict[str, Any]], end: str) -> None:
    """Payer, node, books, events and later commands all say the same, and the code is as good as before."""
    merchant = network.merchant
    came = arrived(payment)
    wait_status(merchant, invoice, end)
    report = merchant.call("reconcile", full=True)
    fresh = merchant.call("paycode-invoice", invoice["paycode_id"], AMOUNT)
    second = network.pay_in_background(fresh["bolt11"])
    wait_status(merchant, fresh, "accepted")
    merchant.call("hold-settle", fresh["payment_hash"])

    assert came is (end == PAID)
    assert at_node(merchant, invoice) == ([PAID] if came else [])
    assert told_of(merchant, invoice) == (
        ["hold.accepted", "hold.settled", "invoice.paid"] if came else ["hold.accepted", "hold.canceled"]
    )
    assert report["agree"] is True, report
    assert code_of(merchant, "hold-cancel" if came else "hold-settle", invoice["payment_hash"]) == 3108
    assert merchant.call("listholds")["holds"] == []
    assert second.result(60)["payment_preimage"]
    assert status_of(merchant, fresh) == PAID
    assert status_of(merchant, invoice) == end


@with_or_without_the_node
@pytest.mark.parametrize("decision", ["hold-settle", "hold-cancel"])
def test_hold_survives_death_before_anyone_is_told(
    die_at: Callable[..., Killed], unique: str, with_node: bool, decision: str
) -> None:
    """With the plugin alone the payer has it back; with the node it is held on, and the decision is open."""
    killed = die_at("hold:accepted", with_node=with_node)
    invoice, payment = hold(killed.network, unique)
    killed.revive()
    if with_node:
        wait_status(killed.merchant, invoice, OPEN)
        killed.merchant.call(decision, invoice["payment_hash"])
    end = PAID if with_node and decision == "hold-settle" else CANCELED

    require_end(killed.network, invoice, payment, end)


@with_or_without_the_node
@pytest.mark.parametrize(("point", "skip", "alone", "together"), SETTLE)
def test_settling_survives_death(
    die_at: Callable[..., Killed], unique: str, point: str, skip: int, alone: str, together: str, with_node: bool
) -> None:
    """Nobody asks again: what was decided is done, or the payer has it back and that is told."""
    killed = die_at(point, skip=skip, with_node=with_node)
    invoice, payment = hold(killed.network, unique)
    wait_status(killed.merchant, invoice, OPEN)
    with contextlib.suppress(RpcError):  # the last points are behind the answer
        killed.merchant.call("hold-settle", invoice["payment_hash"])
    killed.revive()

    require_end(killed.network, invoice, payment, together if with_node else alone)


@pytest.mark.parametrize("point", ["register:called", "settle:released"])
def test_settled_payment_whose_invoice_is_deleted_before_the_plugin_is_back_is_paid(
    die_at: Callable[..., Killed], unique: str, point: str
) -> None:
    """The node lists it no more: its bookkeeper has the money, and nobody is told that the payer has it back."""
    killed = die_at(point, with_node=False)
    merchant = killed.merchant
    if killed.network.kind == "devnode":
        pytest.skip("the stand-in for the node has no bookkeeper")
    invoice, payment = hold(killed.network, unique)
    wait_status(merchant, invoice, OPEN)
    with contextlib.suppress(RpcError):
        merchant.call("hold-settle", invoice["payment_hash"])
    came = arrived(payment)
    merchant.call("delinvoice", label=invoice["label"], status=PAID)
    killed.revive()
    wait_status(merchant, invoice, PAID)

    assert came
    assert told_of(merchant, invoice) == ["hold.accepted", "hold.settled", "invoice.paid"]


@pytest.mark.parametrize("point", ["action:begun", "register:called"])
def test_decision_is_given_up_when_the_node_comes_back_too_late(
    die_at: Callable[..., Killed], unique: str, point: str
) -> None:
    """Blocks came while it was down: what it was told is forgotten there, and the payer has it back."""
    killed = die_at(point, with_node=True)
    network, merchant = killed.network, killed.merchant
    if network.kind == "devnode":
        pytest.skip("its blocks are its own: none come while it is down")
    invoice, payment = hold(network, unique)
    wait_status(merchant, invoice, OPEN)
    (held,) = merchant.call("listholds", invoice["payment_hash"])["holds"]
    height = merchant.call("getinfo")["blockheight"]
    with pytest.raises(RpcError):
        merchant.call("hold-settle", invoice["payment_hash"])
    merchant.wait_for_exit()
    network.bitcoind.mine(held["claim_deadline_height"] - height + 2)  # type: ignore[attr-defined]
    killed.revive()

    require_end(network, invoice, payment, CANCELED)


@with_or_without_the_node
@pytest.mark.parametrize(("point", "skip", "alone", "together"), CANCEL)
def test_canceling_survives_death(
    die_at: Callable[..., Killed], unique: str, point: str, skip: int, alone: str, together: str, with_node: bool
) -> None:
    """The payer has it back, whatever dies."""
    killed = die_at(point, skip=skip, with_node=with_node)
    invoice, payment = hold(killed.network, unique)
    wait_status(killed.merchant, invoice, OPEN)
    with contextlib.suppress(RpcError):
        killed.merchant.call("hold-cancel", invoice["payment_hash"])
    killed.revive()

    require_end(killed.network, invoice, payment, together if with_node else alone)


@with_or_without_the_node
def test_lazy_issue_survives_death(die_at: Callable[..., Killed], unique: str, with_node: bool) -> None:
    """A caller that repeats its idempotency key gets index 1, which can be paid."""
    killed = die_at("issue:signed", with_node=with_node)
    merchant = killed.merchant
    merchant.call("paycode-create", label=unique, issue="lazy")
    asked = {"paycode": unique, "amount_msat": AMOUNT, "idempotency_key": "order-1"}
    with pytest.raises(RpcError):
        merchant.call("paycode-invoice", **asked)
    killed.revive()
    invoice = merchant.call("paycode-invoice", **asked)
    killed.network.pay(invoice["bolt11"], parts=2)
    wait_status(merchant, invoice, PAID)

    assert invoice["index"] == 1
    assert told_of(merchant, invoice) == ["invoice.paid"]
    assert merchant.call("reconcile", full=True)["agree"] is True


@pytest.mark.parametrize("terms", [{"issue": "lazy"}, {"hold": True}])
def test_start_repairs_an_unlisted_issue_that_no_one_asks_about_again(
    die_at: Callable[..., Killed], unique: str, terms: dict[str, Any]
) -> None:
    """Who waits for the index gets its invoice, though the node has nothing of it."""
    killed = die_at("issue:signed", with_node=False)
    merchant = killed.merchant
    merchant.call("paycode-create", label=unique, **terms)
    with pytest.raises(RpcError):
        merchant.call("paycode-invoice", unique, AMOUNT)
    killed.revive()
    issued = merchant.call("paycode-wait", unique, 1, "issued", 30)

    assert merchant.call("decode", issued["bolt11"])["payment_hash"] == issued["payment_hash"]
    assert merchant.call("listinvoices", label=issued["label"])["invoices"] == []
    assert merchant.call("reconcile", full=True)["agree"] is True


@with_or_without_the_node
@pytest.mark.parametrize(("point", "alone", "together"), LAZY)
def test_lazy_payment_survives_death(
    die_at: Callable[..., Killed], unique: str, point: str, alone: bool, together: bool, with_node: bool
) -> None:
    """It arrives once, or the payer has it back and can pay the very same invoice."""
    killed = die_at(point, with_node=with_node)
    merchant, network = killed.merchant, killed.network
    invoice = issue(merchant, unique, issue="lazy")
    payment = network.pay_in_background(invoice["bolt11"], parts=2)
    killed.revive()
    came = arrived(payment)
    after = at_node(merchant, invoice)
    if not came:
        network.pay(invoice["bolt11"], parts=2)
    wait_status(merchant, invoice, PAID)

    assert came is (together if with_node else alone)
    assert (PAID in after) is came
    assert at_node(merchant, invoice) == [PAID]
    assert told_of(merchant, invoice) == ["invoice.paid"]
    assert merchant.call("reconcile", full=True)["agree"] is True
