"""What the node says of the payments it makes, on every kind of node."""

from __future__ import annotations

import hashlib

from network.daemon import poll_until
from recording import Recorded, error_of, parked


def last_index(recorded: Recorded, index: str) -> int:
    return int(recorded.node.call("wait", "sendpays", index, 0)[index])


def test_completed_payment_is_listed_and_notified(shared_recorded: Recorded) -> None:
    """listsendpays has its parts, listpays the whole; sendpay_success carries the part."""
    node = shared_recorded.node
    payment_hash = shared_recorded.network.pay_out(10_000)
    [part] = node.call("listsendpays", payment_hash=payment_hash)["payments"]
    [pay] = node.call("listpays", payment_hash=payment_hash)["pays"]
    [noted] = shared_recorded.wait_for("notification", "sendpay_success", payment_hash)

    assert set(part) == {
        "created_index",
        "id",
        "payment_hash",
        "groupid",
        "updated_index",
        "partid",
        "destination",
        "amount_msat",
        "amount_sent_msat",
        "created_at",
        "completed_at",
        "status",
        "payment_preimage",
        "bolt11",
    }
    assert part["status"] == "complete"
    assert noted == {"jsonrpc": "2.0", "method": "sendpay_success", "params": {"sendpay_success": part}}
    assert set(pay) == {
        "bolt11",
        "destination",
        "payment_hash",
        "status",
        "created_at",
        "completed_at",
        "preimage",
        "amount_msat",
        "amount_sent_msat",
        "created_index",
        "updated_index",
    }
    assert pay["status"] == "complete"
    assert pay["amount_msat"] == 10_000
    assert hashlib.sha256(bytes.fromhex(pay["preimage"])).hexdigest() == payment_hash


def test_failed_payment_is_notified_as_pending_and_listed_as_failed(shared_recorded: Recorded) -> None:
    """The failure says pending: the truth is in listsendpays; a failed pay has no amount."""
    node = shared_recorded.node
    payment_hash = shared_recorded.network.pay_out(10_000, fail=True)
    [part] = node.call("listsendpays", payment_hash=payment_hash)["payments"]
    [noted] = shared_recorded.wait_for("notification", "sendpay_failure", payment_hash)

    def pay() -> dict[str, object]:
        [entry] = node.call("listpays", payment_hash=payment_hash)["pays"]
        return dict(entry)

    # xpay counts its attempt as going on for a moment after it has answered.
    poll_until(lambda: pay()["status"] == "failed", 15, "the pay does not fail")

    assert part["status"] == "failed"
    assert "payment_preimage" not in part
    assert {"completed_at", "erroronion", "updated_index"} <= set(part)
    failure = noted["params"]["sendpay_failure"]
    assert failure["code"] == 202
    assert failure["data"]["status"] == "pending"
    assert failure["data"]["payment_hash"] == payment_hash
    assert {"onionreply", "created_index", "groupid"} <= set(failure["data"])
    assert "updated_index" not in failure["data"]
    assert "amount_msat" not in pay()
    assert "completed_at" not in pay()
    assert "preimage" not in pay()


def test_sendpays_are_paged_by_index(shared_recorded: Recorded) -> None:
    """As invoices are."""
    node = shared_recorded.node
    hashes = [shared_recorded.network.pay_out(1000 + i) for i in range(3)]
    first = node.call("listsendpays", payment_hash=hashes[0])["payments"][0]
    for index in ("created", "updated"):
        start = first[f"{index}_index"]
        page = node.call("listsendpays", index=index, start=start, limit=2)["payments"]
        pays = node.call("listpays", index=index, start=start + 1)["pays"]

        assert [part["payment_hash"] for part in page] == hashes[:2]
        assert [pay["payment_hash"] for pay in pays] == hashes[1:]
    assert error_of(node, "listsendpays", start=1)["message"] == "Can only specify {start} with {index}"


def test_wait_is_woken_by_the_end_of_a_payment(shared_recorded: Recorded) -> None:
    """The detail names the part and its status."""
    next_value = last_index(shared_recorded, "updated") + 1
    with parked(shared_recorded.node, "wait", ["sendpays", "updated", next_value]) as answer:
        payment_hash = shared_recorded.network.pay_out()
        woken = answer()["result"]
    [part] = shared_recorded.node.call("listsendpays", payment_hash=payment_hash)["payments"]

    assert woken == {
        "subsystem": "sendpays",
        "updated": part["updated_index"],
        "sendpays": {
            "status": "complete",
            "partid": part["partid"],
            "groupid": part["groupid"],
            "payment_hash": payment_hash,
        },
    }


def test_wait_is_woken_by_the_start_of_a_payment(shared_recorded: Recorded) -> None:
    """As pending."""
    next_value = last_index(shared_recorded, "created") + 1
    with parked(shared_recorded.node, "wait", ["sendpays", "created", next_value]) as answer:
        payment_hash = shared_recorded.network.pay_out()
        woken = answer()["result"]
    [part] = shared_recorded.node.call("listsendpays", payment_hash=payment_hash)["payments"]

    assert woken == {
        "subsystem": "sendpays",
        "created": part["created_index"],
        "sendpays": {
            "status": "pending",
            "partid": part["partid"],
            "groupid": part["groupid"],
            "payment_hash": payment_hash,
        },
    }


def test_status_selects(shared_recorded: Recorded) -> None:
    """listpays and listsendpays take a status."""
    node = shared_recorded.node
    payment_hash = shared_recorded.network.pay_out()
    complete = node.call("listsendpays", status="complete")["payments"]
    pending = node.call("listsendpays", status="pending")["payments"]

    assert payment_hash in [part["payment_hash"] for part in complete]
    assert payment_hash not in [part["payment_hash"] for part in pending]
    assert node.call("listpays", payment_hash="00" * 32)["pays"] == []
