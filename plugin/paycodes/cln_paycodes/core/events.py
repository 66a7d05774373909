"""Events: what the operator's backend is told, under an id that never changes.

The id is a function of the node, the type and the subject alone, so the hook, the notification, the sweep and a rebuilt
sidecar all make the same one, and only the first insert wins.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any, NamedTuple

from .json_text import compact


class EventType(str, Enum):
    INVOICE_PAID = "invoice.paid"
    INVOICE_EXPIRED = "invoice.expired"
    HOLD_ACCEPTED = "hold.accepted"
    HOLD_SETTLED = "hold.settled"
    HOLD_CANCELED = "hold.canceled"
    PAYMENT_SENT = "payment.sent"
    PAYMENT_FAILED = "payment.failed"
    ORDER_COMPLETED = "order.completed"
    ORDER_FAILED = "order.failed"

    def __str__(self) -> str:
        return self.value


#: The node's notification of each type. Underscores, as pyln-testing takes no hyphen in a topic.
TOPICS = {
    EventType.INVOICE_PAID: "paycode_paid",
    EventType.INVOICE_EXPIRED: "paycode_expired",
    EventType.HOLD_ACCEPTED: "paycode_hold_accepted",
    EventType.HOLD_SETTLED: "paycode_hold_settled",
    EventType.HOLD_CANCELED: "paycode_hold_canceled",
    EventType.PAYMENT_SENT: "paycode_payment_sent",
    EventType.PAYMENT_FAILED: "paycode_payment_failed",
    EventType.ORDER_COMPLETED: "paycode_order_completed",
    EventType.ORDER_FAILED: "paycode_order_failed",
}

#: The node's notification that an endpoint gets no more events; its subject is not a payment, so it is no event.
DISABLED_TOPIC = "paycode_endpoint_disabled"

#: What `webhook-test` sends; it is not in the outbox and has no sequence of its own.
TEST_TYPE = "webhook.test"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that became true, ready for the outbox."""

    id: str
    type: EventType
    #: payment_hash, or payment_hash/groupid, or an order id
    subject: str
    #: None for events that belong to no code (outgoing payments)
    paycode_id: str | None
    #: unix seconds at which it became true, by the node's clock where the node tells it
    timestamp: int
    data: dict[str, Any]


class EventRow(NamedTuple):
    """An event as a row, with its columns in the order in which they are stored."""

    id: str
    type: str
    subject: str
    paycode_id: str | None
    timestamp: int
    #: JSON
    data: str

    @classmethod
    def of(cls, event: Event) -> EventRow:
        data = compact(event.data)
        return cls(event.id, event.type.value, event.subject, event.paycode_id, event.timestamp, data)


def event_id(node_id: str, event_type: str, subject: str) -> str:
    """`evt_` and 32 hex characters; `node_id` is the node's public key in hex."""
    digest = hashlib.sha256(f"{node_id}/{event_type}/{subject}".encode()).hexdigest()
    return f"evt_{digest[:32]}"


def wire_body(*, event_id: str, event_type: str, timestamp: int, sequence: int | None, data: dict[str, Any]) -> str:
    """The JSON body of a webhook (Standard Webhooks: `type`, ISO 8601 `timestamp`, `data`)."""
    body = {
        "type": event_type,
        "timestamp": datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "id": event_id,
        "sequence": sequence,
        "data": data,
    }
    return compact(body)
