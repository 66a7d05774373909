"""Records as the JSON that commands answer: what does not apply is absent, amounts are integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .events import Event, EventType, event_id
from .outgoing import OutgoingOutcome
from .records import Delivery, DeliveryStatus, Endpoint, EndpointStatus, Hold, Invoice, OutboxEvent, Paycode
from .states import InvoiceStatus

#: Moves of an invoice that are told.
TOLD = {InvoiceStatus.PAID: EventType.INVOICE_PAID, InvoiceStatus.EXPIRED: EventType.INVOICE_EXPIRED}


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def paycode_answer(paycode: Paycode) -> dict[str, Any]:
    terms = paycode.terms
    return _present(
        paycode_id=paycode.paycode_id,
        label=terms.label,
        description=terms.description,
        user=terms.user,
        status=str(paycode.status),
        issue=str(terms.issue),
        hold=terms.hold,
        min_msat=terms.min_msat,
        max_msat=terms.max_msat,
        expiry=terms.expiry,
        comment_chars=terms.comment_chars,
        max_pending=terms.max_pending,
        next_index=paycode.next_index,
        issued=paycode.issued,
        paid=paycode.paid,
        received_msat=paycode.received_msat,
        created_at=paycode.created_at,
        updated_at=paycode.updated_at,
    )


def invoice_answer(invoice: Invoice) -> dict[str, Any]:
    by_offer = invoice.offer_id is not None
    return _present(
        paycode_id=invoice.paycode_id,
        index=None if by_offer else invoice.index,
        label=None if by_offer else invoice.label,
        offer_id=invoice.offer_id,
        payment_hash=invoice.payment_hash,
        bolt11=None if by_offer else invoice.bolt11,
        bolt12=invoice.bolt11 if by_offer else None,
        amount_msat=invoice.amount_msat,
        received_msat=invoice.received_msat,
        status=str(invoice.status),
        created_at=invoice.created_at,
        expires_at=invoice.expires_at,
        paid_at=invoice.paid_at,
        comment=invoice.comment,
        payer_data=invoice.payer_data,
    )


def hold_answer(hold: Hold, *, now: int) -> dict[str, Any]:
    """`age` is in seconds; what was canceled before a payment was complete has none."""
    return _present(
        payment_hash=hold.payment_hash,
        paycode_id=hold.paycode_id,
        index=hold.index,
        amount_msat=hold.amount_msat,
        parts=len(hold.parts),
        accepted_at=hold.accepted_at or None,
        age=max(0, now - hold.accepted_at) if hold.accepted_at else None,
        claim_deadline_height=hold.claim_deadline_height or None,
        status=str(hold.status),
        reason=hold.reason,
    )


def endpoint_answer(endpoint: Endpoint, *, pending: int, exhausted: int) -> dict[str, Any]:
    return {
        **_present(
            endpoint=endpoint.endpoint_id,
            url=endpoint.url,
            events=list(map(str, EventType if endpoint.events is None else endpoint.events)),
            paycode_id=endpoint.paycode_id,
            status=str(endpoint.status),
            pending=pending,
            exhausted=exhausted,
            failing_since=endpoint.failing_since,
            created_at=endpoint.created_at,
        ),
        "last_error": endpoint.last_error,
        "last_success_at": endpoint.last_success_at,
    }


def event_answer(event: OutboxEvent, deliveries: list[Delivery], endpoints: Mapping[str, Endpoint]) -> dict[str, Any]:
    """An event with its deliveries; `endpoints` by id, those that it goes to among them."""
    return {
        "id": event.id,
        "sequence": event.sequence,
        "type": event.type,
        "timestamp": event.timestamp,
        "data": event.data,
        "deliveries": [delivery_answer(delivery, endpoints.get(delivery.endpoint_id)) for delivery in deliveries],
    }


def delivery_answer(delivery: Delivery, endpoint: Endpoint | None) -> dict[str, Any]:
    """`due_at` and `why` only of what has not been delivered; no `due_at` means as soon as possible."""
    is_waiting = delivery.status is DeliveryStatus.PENDING and delivery.due_at > 0
    return _present(
        endpoint=delivery.endpoint_id,
        status=str(delivery.status),
        attempts=delivery.attempts,
        due_at=delivery.due_at if is_waiting else None,
        why=_why(delivery, endpoint),
        last_attempt_at=delivery.last_attempt_at,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        delivered_at=delivery.delivered_at,
    )


def _why(delivery: Delivery, endpoint: Endpoint | None) -> str | None:
    """For a person: what keeps the event from its receiver."""
    if delivery.status is DeliveryStatus.DELIVERED or endpoint is None:
        return None
    if endpoint.status is EndpointStatus.PAUSED:
        return "the endpoint is paused"
    if endpoint.status is EndpointStatus.DISABLED:
        return f"the endpoint is disabled: {endpoint.last_error}"
    if delivery.status is DeliveryStatus.EXHAUSTED:
        return f"given up after {delivery.attempts} attempts: {delivery.last_error}"
    if delivery.last_error is not None:
        return delivery.last_error
    if endpoint.status is EndpointStatus.FAILING:
        return f"it waits for the endpoint, which fails: {endpoint.last_error}"
    return "it is on its way"


def invoice_event(node_id: str, event_type: EventType, invoice: Invoice) -> Event:
    """The event that an invoice's move causes, with what applies of its fields."""
    data = invoice_answer(invoice)
    for name in ("bolt11", "bolt12", "status", "created_at"):
        data.pop(name, None)
    return Event(
        id=event_id(node_id, event_type, invoice.payment_hash),
        type=event_type,
        subject=invoice.payment_hash,
        paycode_id=invoice.paycode_id,
        timestamp=invoice.paid_at or invoice.expires_at,
        data=data,
    )


def hold_event(node_id: str, event_type: EventType, invoice: Invoice, *, timestamp: int, **of_hold: str | int) -> Event:
    """The event of a held invoice's move, with what only a hold has: `parts`, `claim_deadline_height`, `reason`."""
    event = invoice_event(node_id, event_type, invoice)
    return replace(event, timestamp=timestamp, data={**event.data, **of_hold})


def payment_event(node_id: str, outcome: OutgoingOutcome) -> Event:
    """The event of an outgoing payment's end."""
    event_type = EventType.PAYMENT_SENT if outcome.sent else EventType.PAYMENT_FAILED
    return Event(
        id=event_id(node_id, event_type, outcome.subject),
        type=event_type,
        subject=outcome.subject,
        paycode_id=None,
        timestamp=outcome.finished_at,
        data=_present(
            payment_hash=outcome.payment_hash,
            groupid=outcome.groupid,
            amount_msat=outcome.amount_msat,
            amount_sent_msat=outcome.amount_sent_msat,
            finished_at=outcome.finished_at,
        ),
    )
