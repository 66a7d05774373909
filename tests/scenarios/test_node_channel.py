"""What a node says of its channel, its options and the chain, on every kind of node."""

from __future__ import annotations

from typing import Any

from network import Node
from network.daemon import poll_until
from recording import Recorded, create, listed, wait_until_in_hook

#: An HTLC that nobody has settled or failed yet.
UNDECIDED = "RCVD_ADD_ACK_REVOCATION"


def in_flight(node: Node, payment_hash: str) -> list[dict[str, Any]]:
    """The incoming HTLCs of a payment, each with the channel that it came through."""
    return [
        {"short_channel_id": channel["short_channel_id"], **htlc}
        for channel in node.call("listpeerchannels")["channels"]
        for htlc in channel["htlcs"]
        if htlc["payment_hash"] == payment_hash and htlc["direction"] == "in"
    ]


def settle_down(node: Node, payment_hash: str) -> None:
    poll_until(lambda: not in_flight(node, payment_hash), 30, "the HTLCs stay")


def test_htlc_in_a_hook_is_listed_with_the_keys_of_the_hook(shared_recorded: Recorded, unique: str) -> None:
    """Channel and number are the hook's, the state is undecided, and the plugin that is asked is named."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique)
    shared_recorded.behave("htlc_accepted", "hold")
    payment = network.pay_in_background(invoice["bolt11"])
    [hook] = shared_recorded.wait_for("hook", "htlc_accepted", invoice["payment_hash"])
    [listed_] = in_flight(node, invoice["payment_hash"])
    node.call("recorder-release", hook="htlc_accepted", answer={"result": "continue"})
    payment.result(30)

    htlc = hook["htlc"]
    assert listed_ == {
        "short_channel_id": htlc["short_channel_id"],
        "direction": "in",
        "id": htlc["id"],
        "amount_msat": 1000,
        "expiry": htlc["cltv_expiry"],
        "payment_hash": invoice["payment_hash"],
        "state": UNDECIDED,
        "local_trimmed": True,
        "status": "Waiting for the htlc_accepted hook of plugin recorder.py",
    }
    settle_down(node, invoice["payment_hash"])


def test_htlcs_of_an_incomplete_set_are_undecided(shared_recorded: Recorded, unique: str) -> None:
    """Until the rest arrives; a node waits for it without a plugin, so no status says whom it asks."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique, 2_000_000)
    first = network.send(invoice["bolt11"], [900_000])
    shared_recorded.wait_for("hook", "htlc_accepted", invoice["payment_hash"])
    poll_until(lambda: "status" not in in_flight(node, invoice["payment_hash"])[0], 15, "the hook does not end")
    [waiting] = in_flight(node, invoice["payment_hash"])
    second = network.send(invoice["bolt11"], [1_100_000])

    assert waiting["state"] == UNDECIDED
    assert "local_trimmed" not in waiting
    for payment in (first, second):
        [part] = payment.result(30)["parts"]
        assert part["payment_preimage"] == invoice["preimage"]
    settle_down(node, invoice["payment_hash"])


def test_htlcs_are_undecided_while_invoice_payment_is_pending(shared_recorded: Recorded, unique: str) -> None:
    """From the answer on they are on their way out: what is still listed then is in another state."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique)
    shared_recorded.behave("invoice_payment", "hold")
    payment = network.pay_in_background(invoice["bolt11"], parts=2)
    wait_until_in_hook(shared_recorded, "invoice_payment", unique)
    before = [htlc["state"] for htlc in in_flight(node, invoice["payment_hash"])]
    node.call("recorder-release", hook="invoice_payment", answer={"result": "continue"})
    poll_until(lambda: listed(node, unique)["status"] == "paid", 15, "it is not settled")
    after = [htlc["state"] for htlc in in_flight(node, invoice["payment_hash"])]
    payment.result(30)

    assert before == [UNDECIDED, UNDECIDED]
    assert UNDECIDED not in after
    settle_down(node, invoice["payment_hash"])


def test_failed_htlc_is_no_longer_undecided(shared_recorded: Recorded, unique: str) -> None:
    """As soon as the payer knows, at the latest."""
    node, network = shared_recorded.node, shared_recorded.network
    invoice = create(node, unique)
    shared_recorded.behave("htlc_accepted", {"result": "fail", "failure_message": "2002"})
    [part] = network.send(invoice["bolt11"], [1000]).result(30)["parts"]
    states = [htlc["state"] for htlc in in_flight(node, invoice["payment_hash"])]

    assert part["failcodename"] == "WIRE_TEMPORARY_NODE_FAILURE"
    assert UNDECIDED not in states
    settle_down(node, invoice["payment_hash"])


def test_undecided_htlcs_are_listed_again_after_a_crash(recorded: Recorded, unique: str) -> None:
    """Same channel, same number: what was in flight is so again before its replay is answered."""
    node, network = recorded.node, recorded.network
    invoice = create(node, unique)
    recorded.behave("htlc_accepted", "hold")
    payment = network.pay_in_background(invoice["bolt11"])
    wait_until_in_hook(recorded, "htlc_accepted", invoice["payment_hash"])
    [before] = in_flight(node, invoice["payment_hash"])
    node.kill()
    node.start()
    hooks = recorded.wait_for("hook", "htlc_accepted", invoice["payment_hash"], 2)
    payment.result(60)

    assert [hook["htlc"]["id"] for hook in hooks] == [before["id"], before["id"]]
    assert [hook["htlc"]["short_channel_id"] for hook in hooks] == [before["short_channel_id"]] * 2
    assert listed(node, unique)["status"] == "paid"


def test_only_way_in_is_a_private_channel_that_leads_nowhere(node: Node, unique: str) -> None:
    """Everything that the choice of route hints looks at is there; an invoice has none."""
    [way] = node.call("listincoming")["incoming"]
    [channel] = node.call("listpeerchannels")["channels"]
    decoded = node.call("decode", create(node, unique)["bolt11"])

    assert way.keys() >= {"fee_base_msat", "fee_proportional_millionths", "cltv_expiry_delta", "htlc_max_msat"}
    assert way["id"] == channel["peer_id"]
    assert way["short_channel_id"] == channel["short_channel_id"]
    assert way["incoming_capacity_msat"] == 0
    assert way["public"] is not channel["private"] is True
    assert channel["state"] == "CHANNELD_NORMAL"
    assert channel["owner"] == "channeld"
    assert set(channel["alias"]) == {"local", "remote"}
    assert "option_scid_alias" in channel["features"]
    sizes = [channel[name] for name in ("receivable_msat", "total_msat", "our_reserve_msat", "their_reserve_msat")]
    assert 0 < sizes[0] < sizes[1]
    assert "routes" not in decoded


def test_final_cltv_of_invoices_is_an_option(node: Node, unique: str) -> None:
    """listconfigs knows cltv-final and cltv-delta, and an invoice that asks for none has the former."""
    configs = node.call("listconfigs")["configs"]
    final = node.call("listconfigs", "cltv-final")["configs"]
    decoded = node.call("decode", create(node, unique)["bolt11"])

    assert set(final) == {"cltv-final"}
    assert decoded["min_final_cltv_expiry"] == final["cltv-final"]["value_int"]
    assert configs["cltv-delta"]["value_int"] == 6


def test_blocks_are_notified_and_counted(shared_recorded: Recorded) -> None:
    """block_added comes with hash and height, and getinfo is no later."""
    node, network = shared_recorded.node, shared_recorded.network
    before = node.call("getinfo")["blockheight"]
    height = network.mine(2)
    shared_recorded.wait_for("notification", "block_added", f'"height": {height}')
    added = [n["params"]["block_added"] for n in shared_recorded.wait_for("notification", "block_added", "", 2)]
    mined = [block for block in added if block["height"] > before]

    assert height == before + 2 == node.call("getinfo")["blockheight"]
    assert [block["height"] for block in mined] == [before + 1, before + 2]
    assert all(set(block) == {"hash", "height"} and len(block["hash"]) == 64 for block in mined)


def test_signed_invoice_is_not_the_nodes(node: Node, unique: str) -> None:
    """signinvoice signs with the node's key and keeps nothing."""
    made = create(node, unique)
    node.call("delinvoice", unique, "unpaid")
    signed = node.call("signinvoice", made["bolt11"])

    assert signed == {"bolt11": made["bolt11"]}
    assert node.call("decode", signed["bolt11"])["payee"] == node.call("getinfo")["id"]
    assert node.call("listinvoices", payment_hash=made["payment_hash"])["invoices"] == []
