"""What a node makes of parts that no wallet would send, on every kind of node."""

from __future__ import annotations

from typing import Any

import pytest
from recording import Recorded, create, listed, wait_until_in_hook

UNKNOWN_DETAILS = "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"


def failures(answer: dict[str, Any]) -> list[str]:
    return [part["failcodename"] for part in answer["parts"] if part["status"] == "failed"]


def test_last_part_may_take_a_set_beyond_its_total(shared_recorded: Recorded, unique: str) -> None:
    """What arrived was received, and all of it is settled at once."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique, 100_000)
    shared_recorded.behave("htlc_accepted", "hold", "hold")
    sent = network.send(invoice["bolt11"], [60_000, 90_000])
    wait_until_in_hook(shared_recorded, "htlc_accepted", invoice["payment_hash"], 2)
    node.call("recorder-release", hook="htlc_accepted", answer={"result": "continue"})
    parts = sent.result(30)["parts"]

    assert parts == [
        {"amount_msat": amount, "status": "complete", "payment_preimage": invoice["preimage"]}
        for amount in (60_000, 90_000)
    ]
    assert listed(node, unique)["amount_received_msat"] == 150_000


def test_parts_that_disagree_about_the_total_fail_the_set(shared_recorded: Recorded, unique: str) -> None:
    """Those that wait as well; the invoice can still be paid."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique, 100_000)
    first = network.send(invoice["bolt11"], [40_000])
    wait_until_in_hook(shared_recorded, "htlc_accepted", invoice["payment_hash"])
    second = network.send(invoice["bolt11"], [60_000], total_msat=120_000)
    failed = [failures(first.result(30)), failures(second.result(30))]
    network.pay(invoice["bolt11"])

    assert failed == [["WIRE_FINAL_INCORRECT_HTLC_AMOUNT"]] * 2
    assert listed(node, unique)["amount_received_msat"] == 100_000


@pytest.mark.parametrize("total", [99_999, 200_001])
def test_total_out_of_range_fails_the_part_alone(shared_recorded: Recorded, unique: str, total: int) -> None:
    """Less than the amount or more than twice of it; a set that waits goes on waiting."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique, 100_000)
    first = network.send(invoice["bolt11"], [40_000])
    wait_until_in_hook(shared_recorded, "htlc_accepted", invoice["payment_hash"])
    wrong = network.send(invoice["bolt11"], [60_000], total_msat=total).result(30)
    last = network.send(invoice["bolt11"], [60_000]).result(30)

    assert failures(wrong) == [UNKNOWN_DETAILS]
    assert failures(first.result(30)) == failures(last) == []
    assert listed(node, unique)["amount_received_msat"] == 100_000


def test_wrong_secret_fails_the_part_alone(shared_recorded: Recorded, unique: str) -> None:
    """Whoever guesses cannot spoil the payment of someone else."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique, 100_000)
    first = network.send(invoice["bolt11"], [40_000])
    wait_until_in_hook(shared_recorded, "htlc_accepted", invoice["payment_hash"])
    wrong = network.send(invoice["bolt11"], [60_000], payment_secret="5e" * 32).result(30)
    last = network.send(invoice["bolt11"], [60_000]).result(30)

    assert failures(wrong) == [UNKNOWN_DETAILS]
    assert failures(first.result(30)) == failures(last) == []


def test_part_that_expires_too_soon_fails(shared_recorded: Recorded, unique: str) -> None:
    """cltv_extra counts from the soonest that is taken."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique)
    height = node.call("getinfo")["blockheight"]
    soonest = node.call("decode", invoice["bolt11"])["min_final_cltv_expiry"]
    early = network.send(invoice["bolt11"], [1000], cltv_extra=-1).result(30)
    late = network.send(invoice["bolt11"], [1000], cltv_extra=100).result(30)
    hooks = shared_recorded.wait_for("hook", "htlc_accepted", invoice["payment_hash"], 2)

    assert failures(early) == [UNKNOWN_DETAILS]
    assert failures(late) == []
    assert [hook["htlc"]["cltv_expiry"] for hook in hooks] == [height + soonest - 1, height + soonest + 100]
    assert [hook["onion"]["outgoing_cltv_value"] for hook in hooks] == [
        height + soonest - 1,
        height + soonest + 100,
    ]


def test_parts_of_two_senders_make_one_set(shared_recorded: Recorded, unique: str) -> None:
    """A node cannot tell them apart: what it counts is the payment hash."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique, 100_000)
    senders = [network.send(invoice["bolt11"], [50_000]) for _ in range(2)]
    ended = [failures(sender.result(30)) for sender in senders]

    assert ended == [[], []]
    assert listed(node, unique)["amount_received_msat"] == 100_000


def test_disagreeing_part_undoes_a_set_that_is_in_its_hook(shared_recorded: Recorded, unique: str) -> None:
    """Everything goes back to the payer, the hook's answer comes too late, and the next try is a new one."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique, 100_000)
    shared_recorded.behave("invoice_payment", "hold")
    first = network.send(invoice["bolt11"], [100_000])
    wait_until_in_hook(shared_recorded, "invoice_payment", unique)
    second = network.send(invoice["bolt11"], [60_000], total_msat=120_000)
    failed = [failures(first.result(30)), failures(second.result(30))]
    node.call("recorder-release", hook="invoice_payment", answer={"result": "continue"})
    status = listed(node, unique)["status"]
    network.pay(invoice["bolt11"])

    assert failed == [["WIRE_FINAL_INCORRECT_HTLC_AMOUNT"]] * 2
    assert status == "unpaid"
    assert listed(node, unique)["status"] == "paid"
