"""What survives when the plugin or the node dies, on every kind of node."""

from __future__ import annotations

import os
from typing import Any

import pytest
from network import ConnectionLost, PaymentFailed
from recording import Recorded


def listed(recorded: Recorded, label: str) -> dict[str, Any]:
    invoice: dict[str, Any] = recorded.node.call("listinvoices", label=label)["invoices"][0]
    return invoice


def test_everything_answered_survives_sigkill_of_the_node(recorded: Recorded) -> None:
    """Invoices, indexes, the datastore, the node's key and its secrets."""
    node = recorded.node
    paid = node.call("invoice", 1000, "paid", "d")
    node.call("invoice", 1000, "deleted", "d")
    node.call("delinvoice", "deleted", "unpaid")
    node.call("invoice", 1000, "unpaid", "d")
    recorded.network.pay(paid["bolt11"])
    node.call("datastore", key=["a", "b"], string="x")

    def state() -> Any:
        return [
            node.call("listinvoices"),
            node.call("listdatastore", "a"),
            node.call("makesecret", string="s"),
            node.call("getinfo")["id"],
            [node.call("wait", "invoices", index, 0) for index in ("created", "updated", "deleted")],
        ]

    before = state()
    node.kill()
    with pytest.raises(ConnectionLost):
        node.call("getinfo")
    node.start()

    assert state() == before
    assert node.call("invoice", 1000, "next", "d")["created_index"] == 4


def test_everything_survives_a_restart(recorded: Recorded) -> None:
    """As it survives a crash; the plugin comes back with the node."""
    node = recorded.node
    node.call("invoice", 1000, "kept", "d")
    secret = node.call("makesecret", string="s")
    before = node.plugin_pid()
    node.restart()

    assert listed(recorded, "kept")["status"] == "unpaid"
    assert node.call("makesecret", string="s") == secret
    assert node.plugin_pid() != before


def test_indexes_are_not_reused_after_deletion(recorded: Recorded) -> None:
    """Even when the last one was deleted before the node died."""
    node = recorded.node
    last = node.call("invoice", 1000, "last", "d")["created_index"]
    node.call("delinvoice", "last", "unpaid")
    node.kill()
    node.start()

    assert node.call("invoice", 1000, "next", "d")["created_index"] == last + 1


def test_invoice_that_expired_while_the_node_was_down(recorded: Recorded) -> None:
    """Is expired, with an updated_index, when it is back."""
    node = recorded.node
    node.call("invoice", 1000, "short", "d", 0)
    node.kill()
    node.start()

    assert listed(recorded, "short")["status"] == "expired"
    assert listed(recorded, "short")["updated_index"] == 1


def test_death_of_the_plugin_in_the_hook_means_continue(recorded: Recorded) -> None:
    """The payment goes through without it."""
    recorded.behave("invoice_payment", "die")
    made = recorded.node.call("invoice", 1000, "orphan", "d")
    paid = recorded.network.pay(made["bolt11"])

    assert paid["payment_preimage"] == listed(recorded, "orphan")["payment_preimage"]


def test_kill_of_the_plugin_while_it_holds_means_continue(recorded: Recorded) -> None:
    """A held HTLC of a known invoice settles when the plugin goes."""
    recorded.behave("htlc_accepted", "hold")
    made = recorded.node.call("invoice", 1000, "held", "d")
    payment = recorded.network.pay_in_background(made["bolt11"])
    recorded.wait_for("hook", "htlc_accepted", made["payment_hash"])
    recorded.node.kill_plugin()

    assert payment.result(30)["payment_preimage"]
    assert listed(recorded, "held")["status"] == "paid"


def test_kill_of_the_plugin_while_it_holds_what_the_node_does_not_know(recorded: Recorded) -> None:
    """An unknown hash fails when the plugin goes: nothing settles unasked."""
    node = recorded.node
    made = node.call("invoice", 1000, "lazy", "d")
    node.call("delinvoice", "lazy", "unpaid")
    recorded.behave("htlc_accepted", "hold")
    payment = recorded.network.pay_in_background(made["bolt11"])
    recorded.wait_for("hook", "htlc_accepted", made["payment_hash"])
    node.kill_plugin()

    with pytest.raises(PaymentFailed) as raised:
        payment.result(30)
    assert raised.value.code == 203


def test_hook_runs_again_after_sigkill_of_the_node(recorded: Recorded) -> None:
    """At least once: the payment is offered again to the plugin when the node is back, and settles."""
    node = recorded.node
    recorded.behave("invoice_payment", "hold")
    made = node.call("invoice", 1000, "again", "d")
    payment = recorded.network.pay_in_background(made["bolt11"])
    recorded.wait_for("hook", "invoice_payment", "again")
    node.kill()
    node.start()
    paid = payment.result(60)
    hooks = recorded.wait_for("hook", "invoice_payment", "again", 2)

    assert paid["payment_preimage"] == listed(recorded, "again")["payment_preimage"]
    assert [hook["status"] for hook in hooks] == ["unpaid", "unpaid"]
    assert len(recorded.wait_for("hook", "htlc_accepted", made["payment_hash"], 2)) == 2


def test_held_htlc_is_offered_again_after_sigkill_of_the_node(recorded: Recorded) -> None:
    """Under the same channel and id."""
    node = recorded.node
    recorded.behave("htlc_accepted", "hold")
    made = node.call("invoice", 1000, "replayed", "d")
    payment = recorded.network.pay_in_background(made["bolt11"])
    recorded.wait_for("hook", "htlc_accepted", made["payment_hash"])
    node.kill()
    node.start()
    first, second = recorded.wait_for("hook", "htlc_accepted", made["payment_hash"], 2)

    assert payment.result(60)["payment_preimage"]
    assert first["htlc"]["short_channel_id"] == second["htlc"]["short_channel_id"]
    assert first["htlc"]["id"] == second["htlc"]["id"]
    assert first["onion"] == second["onion"]


@pytest.mark.parametrize(
    ("hook", "answer"),
    [
        ("invoice_payment", None),
        ("invoice_payment", {}),
        ("invoice_payment", {"result": "maybe"}),
        ("htlc_accepted", None),
        ("htlc_accepted", {"result": "maybe"}),
        ("htlc_accepted", {"result": "resolve", "payment_key": "xx"}),
        ("htlc_accepted", {"result": "fail", "failure_message": "xx"}),
    ],
    ids=str,
)
def test_malformed_hook_answer_aborts_the_node(recorded: Recorded, hook: str, answer: Any) -> None:
    """Whatever it is, it is no way to refuse a payment."""
    node = recorded.node
    recorded.behave(hook, answer)
    bolt11 = node.call("invoice", 1000, os.urandom(4).hex(), "d")["bolt11"]
    payment = recorded.network.pay_in_background(bolt11)
    node.wait_for_exit()
    log = node.log()
    node.start()

    assert "FATAL SIGNAL 6" in log
    assert payment.result(60)["payment_preimage"]
