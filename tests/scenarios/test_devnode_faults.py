"""Faults on demand, which only devnode has, and what a payer there can do that one wallet cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network import ConnectionLost, Network, PaymentFailed, open_network
from network.background import in_background
from recording import Recorded, code_of, connected, error_of


@pytest.fixture
def faulty(tmp_path: Path, recorder: Path) -> Iterator[Recorded]:
    with open_network("devnode", tmp_path, recorder) as network:
        yield Recorded(network)


@pytest.fixture
def network(faulty: Recorded) -> Network:
    return faulty.network


def labels(network: Network) -> list[str]:
    return [invoice["label"] for invoice in network.merchant.call("listinvoices")["invoices"]]


def create(network: Network, label: str) -> dict[str, Any]:
    made: dict[str, Any] = network.merchant.call("invoice", 1000, label, "d")
    return made


def test_refuse_gives_the_error_asked_for(network: Network) -> None:
    """As many times as asked for; then it is over."""
    network.fault("invoice", "refuse", count=2, code=-1, message="no")
    errors = [error_of(network.merchant, "invoice", 1000, "a", "d") for _ in range(2)]
    create(network, "a")

    assert errors == [{"code": -1, "message": "no"}] * 2


def test_refuse_hits_methods_of_plugins_too(network: Network) -> None:
    """Faults go by name."""
    network.fault("recorder-echo", "refuse")

    assert code_of(network.merchant, "recorder-echo") == -1
    assert network.merchant.call("recorder-echo", 1)["params"] == [1]


def test_slow_holds_up_nobody_else(network: Network) -> None:
    """Not even on the same connection."""
    network.fault("makesecret", "slow", seconds=0.5)
    started = time.monotonic()
    slow = in_background(lambda: network.merchant.call("makesecret", string="x"))
    others = 0
    while not slow.done():
        network.merchant.call("getinfo")
        others += 1

    assert slow.result()["secret"]
    assert time.monotonic() - started >= 0.5
    assert others > 5


def test_drop_before_does_nothing(network: Network) -> None:
    """The connection closes without an answer, and nothing was done."""
    network.fault("invoice", "drop_before")
    with pytest.raises(ConnectionLost):
        create(network, "a")

    assert labels(network) == []


def test_drop_after_does_it(network: Network) -> None:
    """The connection closes without an answer, and it was done: the caller cannot know."""
    network.fault("invoice", "drop_after")
    with pytest.raises(ConnectionLost):
        create(network, "a")

    assert labels(network) == ["a"]


def test_hang_never_answers(network: Network) -> None:
    """The connection stays open; other requests on it are answered."""
    network.fault("invoice", "hang")
    with connected(network.merchant) as (send, receive):
        send('{"jsonrpc":"2.0","id":1,"method":"invoice","params":[1000,"a","d"]}')
        send('{"jsonrpc":"2.0","id":2,"method":"getinfo","params":[]}')
        answered = next(receive)["id"]

    assert answered == 2
    assert labels(network) == []


@pytest.mark.parametrize(("fault", "kept"), [("crash_before", []), ("crash_after", ["a"])])
def test_crash_around_the_commit(network: Network, fault: str, kept: list[str]) -> None:
    """Before it nothing is kept, after it everything; the caller gets no answer either way."""
    network.fault("invoice", fault)
    with pytest.raises(ConnectionLost):
        create(network, "a")
    network.merchant.wait_for_exit()
    network.merchant.start()

    assert labels(network) == kept


@pytest.mark.parametrize(("fault", "status"), [("crash_before", "unpaid"), ("crash_after", "paid")])
def test_crash_around_settlement(faulty: Recorded, fault: str, status: str) -> None:
    """The payer gets the preimage in the end; before the commit the hook runs twice, after it nobody is told."""
    network = faulty.network
    made = create(network, "a")
    network.fault("settle", fault)
    payment = network.pay_in_background(made["bolt11"])
    network.merchant.wait_for_exit()
    network.merchant.start()
    paid = payment.result(30)
    hooks = [e for e in faulty.about("a") if e[:2] == ["hook", "invoice_payment"]]

    assert network.merchant.call("listinvoices", "a")["invoices"][0]["payment_preimage"] == paid["payment_preimage"]
    assert len(hooks) == (2 if status == "unpaid" else 1)
    if status == "paid":
        assert not [e for e in faulty.entries() if e[:2] == ["notification", "invoice_payment"]]


def test_notification_can_be_lost(faulty: Recorded) -> None:
    """The node says paid and never said so by itself."""
    network = faulty.network
    network.fault("settle", "lose_notification")
    network.pay(create(network, "lost")["bolt11"])
    network.pay(create(network, "told")["bolt11"])
    faulty.wait_for("notification", "invoice_payment", "told")

    assert not [e for e in faulty.about("lost") if e[:2] == ["notification", "invoice_payment"]]


def test_faults_can_be_cleared(network: Network) -> None:
    """All of them at once; what is no fault is refused."""
    network.fault("invoice", "refuse", count=100)
    network.clear_faults()
    create(network, "a")

    assert code_of(network.merchant, "dev-fault", "invoice", "nonsense") == -32602
    assert code_of(network.merchant, "dev-fault", "settle", "slow") == -32602


def test_second_set_during_the_hook_aborts(faulty: Recorded) -> None:
    """Never park invoice_payment: lightningd dies of another payer's payment for the same invoice."""
    network = faulty.network
    bolt11 = create(network, "twice")["bolt11"]
    faulty.behave("invoice_payment", "hold")
    network.pay_in_background(bolt11)
    faulty.wait_for("hook", "invoice_payment", "twice")
    network.pay_in_background(bolt11)
    network.merchant.wait_for_exit()

    assert "FATAL SIGNAL 6" in network.merchant.log()


def test_copy_of_the_state_file_is_a_backup(network: Network) -> None:
    """Taken while the node is stopped, and put back: indexes are rewound, and nothing else is needed."""
    state = network.merchant.network_dir / "devnode.sqlite3"
    create(network, "before")
    network.merchant.stop()
    backup = state.read_bytes()
    network.merchant.start()
    create(network, "after")
    network.merchant.stop()
    state.write_bytes(backup)
    network.merchant.start()

    assert labels(network) == ["before"]
    assert create(network, "anew")["created_index"] == 2


def test_held_part_fails_when_it_expires(faulty: Recorded) -> None:
    """One block past its cltv_expiry the peer closes the channel, and a later continue settles nothing."""
    network = faulty.network
    made = create(network, "late")
    faulty.behave("htlc_accepted", "hold")
    payment = network.pay_in_background(made["bolt11"])
    [seen] = faulty.wait_for("hook", "htlc_accepted", made["payment_hash"])
    network.mine(seen["htlc"]["cltv_expiry_relative"] + 1)
    with pytest.raises(PaymentFailed):
        payment.result(30)
    network.merchant.call("recorder-release", hook="htlc_accepted", answer={"result": "continue"})

    assert network.merchant.call("listinvoices", "late")["invoices"][0]["status"] == "unpaid"


@pytest.mark.parametrize("ending", ["complete", "failed"])
def test_payment_out_can_end_as_told(faulty: Recorded, ending: str) -> None:
    """Pending until it is told otherwise; the same payment, not a new one."""
    node = faulty.node
    terms = {"payment_hash": "ab" * 32, "amount_msat": 5000, "preimage": "cd" * 32}
    node.call("dev-sendpay", status="pending", **terms)
    pending = node.call("listpays", payment_hash="ab" * 32)["pays"]
    node.call("dev-sendpay", status=ending, **terms)
    ended = node.call("listpays", payment_hash="ab" * 32)["pays"]

    assert [pay["status"] for pay in pending] == ["pending"]
    assert [pay["status"] for pay in ended] == [ending]
    faulty.wait_for("notification", {"complete": "sendpay_success"}.get(ending, "sendpay_failure"))
