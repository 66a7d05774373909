"""How invoices expire and how a caller learns of changes, on every kind of node."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from network import Node
from network.daemon import poll_until
from recording import Recorded, connected, error_of, parked


def wait_until_expired(node: Node, label: str) -> dict[str, Any]:
    def expired() -> bool:
        return bool(node.call("listinvoices", label=label)["invoices"][0]["status"] == "expired")

    poll_until(expired, 15.0, f"{label} does not expire")
    invoice: dict[str, Any] = node.call("listinvoices", label=label)["invoices"][0]
    return invoice


def last_index(node: Node, index: str) -> int:
    """The current value: a wait for what is there already answers at once."""
    return int(node.call("wait", "invoices", index, 0)[index])


def test_expired_invoice_counts_as_updated(node: Node, unique: str) -> None:
    """Status expired, an updated_index, and no preimage."""
    before = last_index(node, "updated")
    node.call("invoice", 1, unique, "d", 1)
    invoice = wait_until_expired(node, unique)

    assert invoice["updated_index"] > before
    assert time.time() >= invoice["expires_at"]
    assert "payment_preimage" not in invoice


def test_expiry_of_zero_is_expired_at_once(node: Node, unique: str) -> None:
    """Nobody can pay it."""
    node.call("invoice", 1, unique, "d", 0)

    assert wait_until_expired(node, unique)["status"] == "expired"


def test_expired_invoice_can_be_deleted_and_made_again(node: Node, unique: str) -> None:
    """As an unpaid one can."""
    node.call("invoice", 1, unique, "d", 0)
    wait_until_expired(node, unique)
    node.call("delinvoice", unique, "expired")

    assert node.call("invoice", 1, unique, "d")["created_index"] > 0


def test_wait_for_created_tells_which(node: Node, unique: str) -> None:
    """A parked wait gets the details; one that is satisfied already gets none."""
    next_value = last_index(node, "created") + 1
    with parked(node, "wait", ["invoices", "created", next_value]) as answer:
        invoice = node.call("invoice", 1, unique, "d")
        woken = answer()["result"]

    assert woken == {
        "subsystem": "invoices",
        "created": invoice["created_index"],
        "invoices": {"status": "unpaid", "label": unique, "bolt11": invoice["bolt11"]},
    }
    assert node.call("wait", "invoices", "created", next_value) == {
        "subsystem": "invoices",
        "created": last_index(node, "created"),
    }


def test_wait_for_updated_is_woken_by_expiry_without_a_label(node: Node, unique: str) -> None:
    """The detail says expired and nothing more: whoever waits has to list."""
    next_value = last_index(node, "updated") + 1
    with parked(node, "wait", ["invoices", "updated", next_value]) as answer:
        node.call("invoice", 1, unique, "d", 1)
        woken = answer()["result"]

    assert woken == {
        "subsystem": "invoices",
        "updated": next_value,
        "invoices": {"status": "expired"},
    }


def test_wait_for_deleted_names_the_invoice(node: Node, unique: str) -> None:
    """Deletions have an index of their own."""
    invoice = node.call("invoice", 1, unique, "d")
    next_value = last_index(node, "deleted") + 1
    with parked(node, "wait", ["invoices", "deleted", next_value]) as answer:
        node.call("delinvoice", unique, "unpaid")
        woken = answer()["result"]

    assert woken == {
        "subsystem": "invoices",
        "deleted": next_value,
        "invoices": {"status": "unpaid", "label": unique, "bolt11": invoice["bolt11"]},
    }


def test_wait_for_payment_names_the_invoice(shared_recorded: Recorded, unique: str) -> None:
    """Paid and the label, under the updated_index that the invoice has."""
    node = shared_recorded.node
    invoice = node.call("invoice", 1000, unique, "d")
    next_value = last_index(node, "updated") + 1
    with parked(node, "wait", ["invoices", "updated", next_value]) as answer:
        shared_recorded.network.pay(invoice["bolt11"])
        woken = answer()["result"]

    assert woken == {
        "subsystem": "invoices",
        "updated": node.call("listinvoices", label=unique)["invoices"][0]["updated_index"],
        "invoices": {"status": "paid", "label": unique},
    }


def test_parked_wait_does_not_hold_up_its_connection(node: Node) -> None:
    """Requests on one connection are answered as they finish; ids come back as they were."""
    far_away = last_index(node, "created") + 1_000_000
    requests = [
        {"jsonrpc": "2.0", "id": "parked", "method": "wait", "params": ["invoices", "created", far_away]},
        {"jsonrpc": "2.0", "id": "a", "method": "makesecret", "params": {"string": "x"}},
        {"jsonrpc": "2.0", "id": 7, "method": "getinfo", "params": []},
    ]
    with connected(node) as (send, receive):
        send("".join(json.dumps(request) for request in requests))
        answers = [next(receive), next(receive)]

    assert [answer["id"] for answer in answers] == ["a", 7]


def test_requests_need_no_delimiter_and_may_come_in_pieces(node: Node) -> None:
    """A stream of JSON objects, cut anywhere, even within a character."""
    request = {"jsonrpc": "2.0", "method": "makesecret", "params": {"string": "é"}}
    text = "".join(json.dumps(request | {"id": f"é{i}"}, ensure_ascii=False) for i in range(3))
    with connected(node) as (send, receive):
        for letter in text:
            send(letter)
        answers = [next(receive) for _ in range(3)]

    assert [answer["id"] for answer in answers] == ["é0", "é1", "é2"]
    assert {answer["result"]["secret"] for answer in answers} == {node.call("makesecret", string="é")["secret"]}


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ('{"jsonrpc":"2.0","method":"getinfo","params":[]}', "No id"),
        ('{"id":1,"method":"getinfo","params":[]}', 'JSON-RPC message does not contain "jsonrpc" field'),
        ('{"jsonrpc":"1","id":1,"method":"getinfo","params":[]}', 'jsonrpc: "2.0" must be specified'),
        ('{"jsonrpc":"2.0","id":1,"method":"getinfo"}', "No params"),
        ('{"jsonrpc":"2.0","id":1,"params":[]}', "No method"),
    ],
)
def test_malformed_requests_are_32600(node: Node, request_text: str, message: str) -> None:
    """And say what is missing."""
    with connected(node) as (send, receive):
        send(request_text)
        answer = next(receive)

    assert answer["error"]["code"] == -32600
    assert answer["error"]["message"].startswith(message)


def test_waitinvoice_returns_the_paid_invoice(shared_recorded: Recorded, unique: str) -> None:
    """Parked until it is paid; afterwards at once."""
    node = shared_recorded.node
    bolt11 = node.call("invoice", 1000, unique, "d")["bolt11"]
    with parked(node, "waitinvoice", [unique]) as answer:
        shared_recorded.network.pay(bolt11)
        paid = answer()["result"]

    assert paid == node.call("waitinvoice", unique)
    assert paid == node.call("listinvoices", label=unique)["invoices"][0]
    assert paid["status"] == "paid"


def test_waitinvoice_fails_when_the_invoice_expires_or_goes(node: Node, unique: str) -> None:
    """903 with the invoice in it; -1 when it is deleted or unknown."""
    node.call("invoice", 1, unique, "d", 1)
    expired = error_of(node, "waitinvoice", unique)
    node.call("invoice", 1, unique + "/2", "d")
    with parked(node, "waitinvoice", [unique + "/2"]) as answer:
        node.call("delinvoice", unique + "/2", "unpaid")
        deleted = answer()["error"]

    assert expired["code"] == 903
    assert expired["data"]["status"] == "expired"
    assert deleted == {"code": -1, "message": "Invoice deleted during wait"}
    assert error_of(node, "waitinvoice", "none")["message"] == "Label not found"


def test_waitanyinvoice_walks_by_pay_index(shared_recorded: Recorded, unique: str) -> None:
    """The first one paid after lastpay_index; 904 when nobody pays in time."""
    node, network = shared_recorded.node, shared_recorded.network
    labels = [f"{unique}/{i}" for i in range(2)]
    for label in labels:
        network.pay(node.call("invoice", 1000, label, "d")["bolt11"])
    first = node.call("listinvoices", label=labels[0])["invoices"][0]
    second = node.call("waitanyinvoice", first["pay_index"])
    timed_out = error_of(node, "waitanyinvoice", second["pay_index"], 0)

    assert second["label"] == labels[1]
    assert second["pay_index"] == first["pay_index"] + 1
    assert timed_out["code"] == 904
