"""Held invoices: the operator settles or cancels each payment, and nobody else does, whatever dies meanwhile."""

from __future__ import annotations

import fcntl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from network import Network, Node, PaymentFailed
from network.daemon import poll_until
from network.daemon_node import DaemonNode
from network.interface import SPARE_BLOCKS
from network.sent_parts import Parts
from pyln.client import RpcError
from receiving import Receiver
from recording import code_of

pytestmark = pytest.mark.actions

AMOUNT = 40000

UNKNOWN_DETAILS = "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"
DECISIONS = ("hold-settle", "hold-cancel")
WRONG_TOTAL = "WIRE_FINAL_INCORRECT_HTLC_AMOUNT"


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


def htlcs_of(node: Node, invoice: dict[str, Any]) -> int:
    channels = node.call("listpeerchannels")["channels"]
    return sum(htlc["payment_hash"] == invoice["payment_hash"] for channel in channels for htlc in channel["htlcs"])


def failures(answer: dict[str, Any]) -> list[str]:
    return [part["failcodename"] for part in answer["parts"] if part["status"] == "failed"]


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
    """What is no hold, and what is none yet, is told apart."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    merchant.call("paycode-create", f"{unique}-plain")
    plain = merchant.call("paycode-invoice", f"{unique}-plain", AMOUNT)

    for method in DECISIONS:
        assert code_of(merchant, method, "00" * 32) == 3107
        assert code_of(merchant, method, plain["payment_hash"]) == 3108
        assert code_of(merchant, method, "not a hash") == -32602
    assert code_of(merchant, "hold-settle", invoice["payment_hash"]) == 3108
    assert merchant.call("listholds", invoice["payment_hash"]) == {"holds": []}


def test_held_invoice_that_is_canceled_before_it_is_paid_takes_no_payment(shared_network: Network, unique: str) -> None:
    """An order that cannot be met any more: whoever pays it later has the money back at once."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    canceled = merchant.call("hold-cancel", invoice["payment_hash"])
    again = merchant.call("hold-cancel", invoice["payment_hash"])
    with pytest.raises(PaymentFailed):
        shared_network.pay(invoice["bolt11"])
    listed = merchant.call("listholds", invoice["payment_hash"])["holds"]

    assert canceled == again == listed[0]
    assert (canceled["status"], canceled["parts"], canceled["amount_msat"]) == ("canceled", 0, 0)
    assert canceled.keys().isdisjoint({"accepted_at", "age", "claim_deadline_height"})
    assert status_of(merchant, invoice) == "canceled"
    assert [event["type"] for event in events_of(merchant, invoice)] == ["hold.canceled"]
    assert code_of(merchant, "hold-settle", invoice["payment_hash"]) == 3108
    assert merchant.call("reconcile", full=True)["agree"] is True


def test_parts_of_a_payment_that_is_canceled_before_it_is_complete_go_back(
    shared_network: Network, unique: str
) -> None:
    """They do not wait for the rest."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    sending = shared_network.send(invoice["bolt11"], [AMOUNT // 4], total_msat=AMOUNT)
    poll_until(lambda: htlcs_of(merchant, invoice) == 1, 30.0, "the part did not arrive")
    merchant.call("hold-cancel", invoice["payment_hash"])
    answer = sending.result(30)

    assert failures(answer) == [UNKNOWN_DETAILS]
    assert status_of(merchant, invoice) == "canceled"


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


def test_hold_survives_a_restart_before_the_plugin_of_the_first_run_has_ended(network: Network) -> None:
    """It may still have the sidecar for a moment: the new one waits for it, and the node for the new one."""
    merchant = network.merchant
    invoice = held_invoice(merchant, "held")
    payment = network.pay_in_background(invoice["bolt11"], parts=2)
    wait_held(merchant, invoice)
    merchant.kill()
    with (merchant.network_dir / "paycodes.sqlite3.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ending = threading.Timer(1.5, fcntl.flock, (lock, fcntl.LOCK_UN))
        ending.start()
        merchant.start()
        ending.join()
    wait_held(merchant, invoice)
    settled = merchant.call("hold-settle", invoice["payment_hash"])

    assert settled["status"] == "paid"
    assert payment.result(60)["payment_preimage"]


def test_node_lives_though_a_held_payment_had_more_parts_than_it_needs(network: Network) -> None:
    """After a restart they come in any order: only those that the payment needs are held, and settled."""
    merchant = network.merchant
    invoice = held_invoice(merchant, "held")
    small = network.send(invoice["bolt11"], [AMOUNT // 20] * 10, total_msat=AMOUNT)
    poll_until(lambda: htlcs_of(merchant, invoice) == 10, 30.0, "the small parts do not arrive")
    whole = network.send(invoice["bolt11"], [AMOUNT])
    hold = wait_held(merchant, invoice)
    ended = failures(small.result(60))
    merchant.kill()
    merchant.start()
    wait_held(merchant, invoice)
    pid = merchant.pid()
    settled = merchant.call("hold-settle", invoice["payment_hash"])

    assert (hold["amount_msat"], hold["parts"]) == (AMOUNT, 1)
    assert ended == [UNKNOWN_DETAILS] * 10
    assert settled["status"] == "paid"
    assert failures(whole.result(60)) == []
    assert merchant.pid() == pid


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


def test_payment_of_more_is_held_and_settled_whole(shared_network: Network, unique: str) -> None:
    """Up to twice the amount the node takes it, and so it is what the operator decides about."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    sent = shared_network.send(invoice["bolt11"], [AMOUNT, AMOUNT // 2, AMOUNT // 2], total_msat=2 * AMOUNT)
    hold = wait_held(merchant, invoice)
    merchant.call("hold-settle", invoice["payment_hash"])
    ended = sent.result(60)
    (row,) = merchant.call("listpaycodeinvoices", payment_hash=invoice["payment_hash"])["invoices"]

    assert (hold["amount_msat"], hold["parts"]) == (2 * AMOUNT, 3)
    assert failures(ended) == []
    assert (row["status"], row["amount_msat"], row["received_msat"]) == ("paid", AMOUNT, 2 * AMOUNT)


def test_part_beyond_a_held_payment_is_failed_while_it_is_held_on(shared_network: Network, unique: str) -> None:
    """What comes late changes nothing of what the operator was told."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    payment = shared_network.pay_in_background(invoice["bolt11"], parts=2)
    before = wait_held(merchant, invoice)
    late = shared_network.send(invoice["bolt11"], [AMOUNT // 2]).result(60)
    whole = shared_network.send(invoice["bolt11"], [AMOUNT]).result(60)
    after = wait_held(merchant, invoice)
    merchant.call("hold-settle", invoice["payment_hash"])

    assert (failures(late), failures(whole)) == ([UNKNOWN_DETAILS], [UNKNOWN_DETAILS])
    assert after | {"age": 0} == before | {"age": 0}
    assert payment.result(60)["payment_preimage"]


def test_parts_that_the_node_would_refuse_are_not_held(shared_network: Network, unique: str) -> None:
    """Too little, too much, a guessed secret, no time left, totals that differ: all go back at once."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    bolt11 = invoice["bolt11"]
    little = shared_network.send(bolt11, [AMOUNT - 1], total_msat=AMOUNT - 1).result(60)
    much = shared_network.send(bolt11, [2 * AMOUNT + 1], total_msat=2 * AMOUNT + 1).result(60)
    guessed = shared_network.send(bolt11, [AMOUNT], payment_secret="5e" * 32).result(60)
    near = shared_network.send(bolt11, [AMOUNT], cltv_extra=-130).result(60)
    differ = [shared_network.send(bolt11, [AMOUNT // 2], total_msat=AMOUNT + more) for more in (0, 1)]
    differed = [failures(answer.result(60)) for answer in differ]
    listed = merchant.call("listholds", invoice["payment_hash"])["holds"]
    payment = shared_network.pay_in_background(bolt11)
    wait_held(merchant, invoice)
    merchant.call("hold-settle", invoice["payment_hash"])

    assert [failures(answer) for answer in (little, much, guessed, near)] == [[UNKNOWN_DETAILS]] * 4
    assert differed == [[WRONG_TOTAL]] * 2
    assert listed == []
    assert payment.result(60)["payment_preimage"]


def test_part_that_brings_less_than_its_onion_says_is_not_held(shared_network: Network, unique: str) -> None:
    """The node would refuse it when it is let go, and what the operator has settled would never be paid."""
    merchant, payer = shared_network.merchant, shared_network.payer
    if not isinstance(payer, DaemonNode):
        pytest.skip("the stand-in for the node has nobody on the way")
    invoice = held_invoice(merchant, unique)
    skimmed = Parts(invoice["bolt11"], [AMOUNT], AMOUNT, None, SPARE_BLOCKS, skimmed_msat=1)
    ended = skimmed.send(payer, merchant.call("getinfo")["id"], 60)

    assert failures({"parts": ended}) == [WRONG_TOTAL]
    assert merchant.call("listholds", invoice["payment_hash"])["holds"] == []


def test_listholds_shows_what_is_to_be_decided(shared_network: Network, unique: str) -> None:
    """Each field of a hold, and its age grows."""
    merchant = shared_network.merchant
    invoice = held_invoice(merchant, unique)
    before, height = int(time.time()), merchant.call("getinfo")["blockheight"]
    payment = shared_network.pay_in_background(invoice["bolt11"], parts=2)
    hold = wait_held(merchant, invoice)
    poll_until(lambda: wait_held(merchant, invoice)["age"] > hold["age"], 30.0, "it does not grow older")
    (named,) = merchant.call("listholds", invoice["payment_hash"])["holds"]
    merchant.call("hold-cancel", invoice["payment_hash"])
    with pytest.raises(PaymentFailed):
        payment.result(60)
    (over,) = merchant.call("listholds", invoice["payment_hash"])["holds"]

    assert set(hold) == {
        "payment_hash", "paycode_id", "index", "amount_msat", "parts", "accepted_at", "age",
        "claim_deadline_height", "status",
    }  # fmt: skip
    assert (hold["paycode_id"], hold["index"], hold["parts"]) == (invoice["paycode_id"], 1, 2)
    assert before <= hold["accepted_at"] <= time.time()
    assert height < hold["claim_deadline_height"] < height + 144
    assert named | {"age": 0} == hold | {"age": 0}
    assert (over["status"], over["reason"]) == ("canceled", "canceled by hold-cancel")


def test_of_two_operators_exactly_one_wins(shared_network: Network, unique: str) -> None:
    """One settles, one cancels at the same time: payer, node, books, events and answers agree on who was first."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", label=unique, hold=True)
    wins = []
    with ThreadPoolExecutor(2) as operators:
        for _ in range(20):
            invoice = merchant.call("paycode-invoice", unique, AMOUNT)
            payment = shared_network.pay_in_background(invoice["bolt11"])
            wait_held(merchant, invoice)
            asked = [operators.submit(merchant.call, name, invoice["payment_hash"]) for name in DECISIONS]
            errors = [call.exception() for call in asked]
            failed = payment.exception(60)
            told = [event["type"] for event in events_of(merchant, invoice)]
            settled = errors[0] is None

            assert [isinstance(error, RpcError) and error.error["code"] for error in errors].count(3108) == 1
            assert isinstance(failed, PaymentFailed) is not settled
            assert status_of(merchant, invoice) == ("paid" if settled else "canceled")
            assert ("invoice.paid" in told, "hold.settled" in told, "hold.canceled" in told) == (
                settled,
                settled,
                not settled,
            )
            assert len(merchant.call("listinvoices", label=invoice["label"])["invoices"]) == settled
            wins.append(settled)
    report = merchant.call("reconcile", full=True)

    assert len(wins) == 20
    assert report["agree"] is True


def test_webhook_gets_what_happens_to_a_hold(shared_network: Network, unique: str) -> None:
    """The deadline with the first event, the reason with the last, each in its order."""
    merchant = shared_network.merchant
    merchant.call("paycode-create", label=unique, hold=True)
    with Receiver() as receiver:
        added = merchant.call("webhook-add", url=receiver.url, paycode=unique)
        receiver.secret = added["secret"]
        invoices = [merchant.call("paycode-invoice", unique, AMOUNT) for _ in range(2)]
        payments = [shared_network.pay_in_background(invoice["bolt11"]) for invoice in invoices]
        holds = [wait_held(merchant, invoice) for invoice in invoices]
        receiver.wait_for(2)
        merchant.call("hold-settle", invoices[0]["payment_hash"])
        merchant.call("hold-cancel", invoices[1]["payment_hash"])
        receiver.wait_for(5)
        merchant.call("webhook-remove", added["endpoint"])
    got = [
        {body["type"]: body["data"] for body in receiver.verified if body["data"]["payment_hash"] == i["payment_hash"]}
        for i in invoices
    ]

    assert [list(types) for types in got] == [
        ["hold.accepted", "hold.settled", "invoice.paid"],
        ["hold.accepted", "hold.canceled"],
    ]
    for data, hold in zip(got, holds, strict=True):
        assert data["hold.accepted"]["claim_deadline_height"] == hold["claim_deadline_height"]
    assert got[0]["hold.settled"]["received_msat"] == AMOUNT
    assert got[1]["hold.canceled"]["reason"] == "canceled by hold-cancel"
    assert payments[0].result(60)["payment_preimage"]
    assert isinstance(payments[1].exception(60), PaymentFailed)


def test_node_stops_with_open_holds_and_has_them_afterwards(network: Network) -> None:
    """They do not keep it from stopping, and what the operator says right after the start is done."""
    merchant = network.merchant
    merchant.call("paycode-create", label="held", hold=True)
    invoices = [merchant.call("paycode-invoice", "held", AMOUNT) for _ in range(3)]
    payments = [network.pay_in_background(invoice["bolt11"], parts=2) for invoice in invoices]
    before = [wait_held(merchant, invoice) for invoice in invoices]
    since = len(merchant.log())
    merchant.stop()
    stopping = merchant.log()[since:]
    merchant.start()
    merchant.call("hold-settle", invoices[0]["payment_hash"])
    merchant.call("hold-cancel", invoices[1]["payment_hash"])
    after = wait_held(merchant, invoices[2])
    ended = [payment.exception(60) for payment in payments[:2]]
    merchant.call("hold-settle", invoices[2]["payment_hash"])

    assert "killing" not in stopping
    assert after | {"age": 0} == before[2] | {"age": 0}
    assert ended[0] is None
    assert isinstance(ended[1], PaymentFailed)
    assert payments[2].result(60)["payment_preimage"]
    poll_until(lambda: status_of(merchant, invoices[0]) == "paid", 30.0, "it was not settled")
    assert [status_of(merchant, invoice) for invoice in invoices] == ["paid", "canceled", "paid"]
    assert merchant.call("reconcile", full=True)["agree"] is True


def test_plugin_that_is_stopped_gives_held_payments_back(network: Network) -> None:
    """As when it dies: each is told once it is started again, and the code is as good as before."""
    merchant = network.merchant
    merchant.call("paycode-create", label="held", hold=True)
    invoices = [merchant.call("paycode-invoice", "held", AMOUNT) for _ in range(2)]
    payments = [network.pay_in_background(invoice["bolt11"], parts=2) for invoice in invoices]
    for invoice in invoices:
        wait_held(merchant, invoice)
    merchant.stop_plugin()
    ended = [payment.exception(60) for payment in payments]
    merchant.start_plugin()
    for invoice in invoices:
        poll_until(lambda i=invoice: status_of(merchant, i) == "canceled", 30.0, "it was not canceled")  # type: ignore[misc]
    told = [sorted(event["type"] for event in events_of(merchant, invoice)) for invoice in invoices]
    fresh = merchant.call("paycode-invoice", "held", AMOUNT)
    second = network.pay_in_background(fresh["bolt11"])
    wait_held(merchant, fresh)
    merchant.call("hold-settle", fresh["payment_hash"])

    assert all(isinstance(error, PaymentFailed) for error in ended)
    assert told == [["hold.accepted", "hold.canceled"]] * 2
    assert second.result(60)["payment_preimage"]
    assert merchant.call("reconcile", full=True)["agree"] is True
