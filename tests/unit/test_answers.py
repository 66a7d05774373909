"""Records as answers: the names of the contract, what does not apply is absent, no secret is in them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from cln_paycodes.core.answers import (
    delivery_answer,
    endpoint_answer,
    event_answer,
    invoice_answer,
    invoice_event,
    paycode_answer,
    payment_event,
)
from cln_paycodes.core.events import EventType, event_id
from cln_paycodes.core.outgoing import OutgoingOutcome
from cln_paycodes.core.records import (
    Delivery,
    DeliveryStatus,
    Endpoint,
    EndpointStatus,
    Invoice,
    OutboxEvent,
    Paycode,
)
from cln_paycodes.core.states import InvoiceStatus
from cln_paycodes.core.terms import PaycodeStatus, Terms
from samples import NOW, add_invoice, add_paycode, memory_sidecar, paycode_id_of, slot_of

NODE_ID = "02" * 33
SLOT = slot_of("coffee", 1)
PAYCODE = Paycode(
    paycode_id=SLOT.paycode_id,
    number=0,
    terms=Terms(label="coffee", description="One coffee", user="till", max_msat=10**9, max_pending=5),
    status=PaycodeStatus.ACTIVE,
    sealed_root="c2VjcmV0",
    next_index=3,
    reserved_index=101,
    listed_from=1,
    issued=2,
    paid=1,
    received_msat=21_000,
    pending=0,
    mirrored=True,
    created_at=NOW,
    updated_at=NOW + 1,
)
with memory_sidecar() as _sql:
    add_paycode(_sql, "coffee")
    RESERVED = add_invoice(_sql, SLOT)
    PAID = add_invoice(
        _sql,
        slot_of("coffee", 2),
        InvoiceStatus.PAID,
        received_msat=21_001,
        bolt11="lnbc1",
        paid_at=NOW + 10,
        moved_at=NOW + 11,
        comment="thanks",
        payer_data={"name": "Ada"},
        idempotency_key="order-7",
    )


def test_paycode_has_the_names_of_the_contract() -> None:
    """Every field that applies is there, the sealed root key is not."""
    assert paycode_answer(PAYCODE) == {
        "paycode_id": paycode_id_of("coffee"),
        "label": "coffee",
        "description": "One coffee",
        "user": "till",
        "status": "active",
        "issue": "eager",
        "hold": False,
        "min_msat": 1,
        "max_msat": 10**9,
        "expiry": 3600,
        "comment_chars": 140,
        "max_pending": 5,
        "next_index": 3,
        "issued": 2,
        "paid": 1,
        "received_msat": 21_000,
        "created_at": NOW,
        "updated_at": NOW + 1,
    }


def test_terms_that_do_not_apply_are_absent() -> None:
    """A code without user and limits has no such fields."""
    plain = paycode_answer(replace(PAYCODE, terms=Terms(label="coffee", description="")))

    assert {"user", "max_msat", "max_pending"}.isdisjoint(plain)
    assert plain["description"] == ""


def test_invoice_has_the_names_of_the_contract() -> None:
    """A paid invoice with all that can be in it."""
    assert invoice_answer(PAID) == {
        "paycode_id": SLOT.paycode_id,
        "index": 2,
        "label": f"paycode/{SLOT.paycode_id}/2",
        "payment_hash": PAID.payment_hash,
        "bolt11": "lnbc1",
        "amount_msat": 21_000,
        "received_msat": 21_001,
        "status": "paid",
        "created_at": NOW,
        "expires_at": NOW + 3600,
        "paid_at": NOW + 10,
        "comment": "thanks",
        "payer_data": {"name": "Ada"},
    }


def test_what_a_reserved_invoice_lacks_is_absent() -> None:
    """There is no null in an invoice."""
    answer = invoice_answer(RESERVED)

    assert {"bolt11", "received_msat", "paid_at", "comment", "payer_data"}.isdisjoint(answer)
    assert None not in answer.values()


ENDPOINT = Endpoint(
    endpoint_id="ep_0123456789abcdef",
    url="https://shop.example/paid",
    events=("invoice.paid",),
    paycode_id=SLOT.paycode_id,
    sealed_secrets=("c2VhbGVk",),
    status=EndpointStatus.FAILING,
    since=NOW,
    mirrored=True,
    failing_since=NOW,
    last_error="503",
    last_success_at=None,
    created_at=NOW,
    updated_at=NOW,
)


def test_endpoint_shows_no_secret() -> None:
    """A webhook in a list has its state and not its secrets."""
    assert endpoint_answer(ENDPOINT, pending=3, exhausted=1) == {
        "endpoint": "ep_0123456789abcdef",
        "url": "https://shop.example/paid",
        "events": ["invoice.paid"],
        "paycode_id": SLOT.paycode_id,
        "status": "failing",
        "pending": 3,
        "exhausted": 1,
        "failing_since": NOW,
        "created_at": NOW,
        "last_error": "503",
        "last_success_at": None,
    }


def test_endpoint_of_every_type_names_them() -> None:
    """A reader of the list need not know what a missing `events` means."""
    answer = endpoint_answer(replace(ENDPOINT, events=None), pending=0, exhausted=0)

    assert answer["events"] == [event_type.value for event_type in EventType]


def _delivery(**changes: Any) -> Delivery:
    return replace(
        Delivery(
            sequence=4,
            endpoint_id=ENDPOINT.endpoint_id,
            status=DeliveryStatus.PENDING,
            attempts=2,
            due_at=NOW + 5,
            last_attempt_at=NOW,
            last_status=503,
            last_error="busy",
            delivered_at=None,
        ),
        **changes,
    )


def test_event_comes_with_its_deliveries() -> None:
    """An event in the outbox shows where it stands with each endpoint."""
    event = OutboxEvent(
        sequence=4, id="evt_1", type="invoice.paid", subject="s", paycode_id=None, timestamp=NOW, data={"index": 1}
    )

    assert event_answer(event, [_delivery()], {ENDPOINT.endpoint_id: ENDPOINT}) == {
        "id": "evt_1",
        "sequence": 4,
        "type": "invoice.paid",
        "timestamp": NOW,
        "data": {"index": 1},
        "deliveries": [
            {
                "endpoint": ENDPOINT.endpoint_id,
                "status": "pending",
                "attempts": 2,
                "due_at": NOW + 5,
                "why": "busy",
                "last_attempt_at": NOW,
                "last_status": 503,
                "last_error": "busy",
            }
        ],
    }


def test_delivered_event_is_not_due() -> None:
    """What was acknowledged says when, and has no next attempt."""
    answer = delivery_answer(
        _delivery(status=DeliveryStatus.DELIVERED, delivered_at=NOW + 1, last_error=None), ENDPOINT
    )

    assert answer["delivered_at"] == NOW + 1
    assert {"due_at", "why"}.isdisjoint(answer)


UNTRIED: dict[str, Any] = {"attempts": 0, "due_at": 0, "last_attempt_at": None, "last_status": None, "last_error": None}


@pytest.mark.parametrize(
    ("changes", "status", "why"),
    [
        (UNTRIED, EndpointStatus.ACTIVE, "it is on its way"),
        (UNTRIED, EndpointStatus.FAILING, "it waits for the endpoint, which fails: 503"),
        (UNTRIED, EndpointStatus.PAUSED, "the endpoint is paused"),
        ({}, EndpointStatus.DISABLED, "the endpoint is disabled: 503"),
        (
            {"status": DeliveryStatus.EXHAUSTED, "attempts": 10},
            EndpointStatus.ACTIVE,
            "given up after 10 attempts: busy",
        ),
    ],
)
def test_event_that_has_not_arrived_says_why(changes: dict[str, Any], status: EndpointStatus, why: str) -> None:
    """Each delivery that is not acknowledged names what keeps it, the endpoint's state before its own."""
    answer = delivery_answer(_delivery(**changes), replace(ENDPOINT, status=status))

    assert answer["why"] == why


def test_event_of_a_paid_invoice_holds_what_a_backend_needs() -> None:
    """Its data has the fields of the contract, and none that would differ in a rebuilt sidecar's event."""
    event = invoice_event(NODE_ID, EventType.INVOICE_PAID, PAID)

    assert event.id == event_id(NODE_ID, "invoice.paid", PAID.payment_hash)
    assert (event.subject, event.paycode_id, event.timestamp) == (PAID.payment_hash, SLOT.paycode_id, NOW + 10)
    assert event.data == {
        "paycode_id": SLOT.paycode_id,
        "index": 2,
        "label": PAID.label,
        "payment_hash": PAID.payment_hash,
        "amount_msat": 21_000,
        "received_msat": 21_001,
        "expires_at": NOW + 3600,
        "paid_at": NOW + 10,
        "comment": "thanks",
        "payer_data": {"name": "Ada"},
    }


def test_event_of_an_expired_invoice_is_dated_by_its_expiry() -> None:
    """Every run that finds it expired gives it the same time."""
    expired = replace(RESERVED, status=InvoiceStatus.EXPIRED, moved_at=NOW + 9999)

    event = invoice_event(NODE_ID, EventType.INVOICE_EXPIRED, expired)

    assert event.timestamp == NOW + 3600
    assert "paid_at" not in event.data


@pytest.mark.parametrize(("sent", "event_type"), [(True, "payment.sent"), (False, "payment.failed")])
def test_event_of_an_outgoing_payment(sent: bool, event_type: str) -> None:
    """Its subject is hash and group, and what the node does not say is absent."""
    outcome = OutgoingOutcome(
        payment_hash="aa" * 32, groupid=2, sent=sent, amount_msat=None, amount_sent_msat=21_005, finished_at=NOW
    )

    event = payment_event(NODE_ID, outcome)

    assert event.type == event_type
    assert event.id == event_id(NODE_ID, event_type, f"{'aa' * 32}/2")
    assert event.paycode_id is None
    assert event.data == {
        "payment_hash": "aa" * 32,
        "groupid": 2,
        "amount_sent_msat": 21_005,
        "finished_at": NOW,
    }


def test_no_answer_shows_how_a_row_is_kept() -> None:
    """Fields of the books alone stay there: the idempotency key, the sealed key, the bound of indexes."""
    kept = {"sealed_root", "reserved_index", "listed_from", "mirrored", "number"}
    kept |= {"sequence", "moved_at", "idempotency_key"}

    shown = {**paycode_answer(PAYCODE), **invoice_answer(PAID)}

    assert kept <= {field.name for record in (Paycode, Invoice) for field in fields(record)}
    assert kept.isdisjoint(shown)
