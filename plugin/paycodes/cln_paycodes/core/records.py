"""What the books hold, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from .htlcs import Key
from .labels import Slot
from .offers import Promise
from .states import InvoiceStatus
from .terms import PaycodeStatus, Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class Paycode:
    #: SHA256 of the root public key, 64 hex characters; public
    paycode_id: str
    #: r, in order of creation; None for a code whose root key came from elsewhere
    number: int | None
    terms: Terms
    status: PaycodeStatus
    #: the imported root key, sealed; None for a derived one
    sealed_root: str | None
    #: the index that the next invoice gets
    next_index: int
    #: indexes below this may be handed out: the bound is in the node's datastore before they are
    reserved_index: int
    #: indexes below this may have been handed out with terms under which the node does not list the invoice
    listed_from: int
    #: invoices ever issued, those paid, and what came in with them
    issued: int
    paid: int
    received_msat: int
    #: invoices that may still be paid
    pending: int
    #: the definition in the node's datastore is the one here
    mirrored: bool
    created_at: int
    updated_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Invoice:
    #: order of creation in this sidecar
    sequence: int
    paycode_id: str
    index: int
    #: 64 hex characters
    payment_hash: str
    status: InvoiceStatus
    amount_msat: int
    received_msat: int | None
    bolt11: str | None
    #: unix seconds
    created_at: int
    expires_at: int
    paid_at: int | None
    #: unix seconds of the last move
    moved_at: int
    comment: str | None
    payer_data: dict[str, Any] | None
    idempotency_key: str | None
    #: what the invoice says or commits to; None when it is not known (an older row)
    description: str | None
    #: it has only the hash of that (LUD-06)
    description_hashed: bool
    #: the offer that it is a payment of; its index is negative then, and `bolt11` holds the BOLT 12 invoice
    offer_id: str | None
    #: the operator settles or cancels its payment
    hold: bool
    #: the node may have it: it was told, or is just about to be (a lazy or held invoice is not at first)
    registered: bool
    #: it was (or is just about to be) told after the invoice was handed out
    registered_late: bool

    @property
    def slot(self) -> Slot:
        return Slot(self.paycode_id, self.index)

    @property
    def label(self) -> str:
        """The node's label of this invoice."""
        return self.slot.label


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """A payment of a held invoice that is all there, or an invoice that was canceled before there was one."""

    payment_hash: str
    paycode_id: str
    index: int
    #: the invoice's
    status: InvoiceStatus
    #: its HTLCs
    parts: frozenset[Key]
    #: what they are together
    amount_msat: int
    #: unix seconds, 0 without a payment
    accepted_at: int
    #: from this block height on it is canceled, and no longer settled; 0 without a payment
    claim_deadline_height: int
    #: why it was canceled
    reason: str | None

    @property
    def slot(self) -> Slot:
        return Slot(self.paycode_id, self.index)


class EndpointStatus(str, Enum):
    ACTIVE = "active"
    FAILING = "failing"
    PAUSED = "paused"
    DISABLED = "disabled"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A receiver of events."""

    #: `ep_` and 16 hex characters
    endpoint_id: str
    url: str
    #: event types it wants; None: all
    events: tuple[str, ...] | None
    #: only events of this code; None: all
    paycode_id: str | None
    #: its secrets, sealed, the oldest first
    sealed_secrets: tuple[str, ...]
    status: EndpointStatus
    #: unix seconds; a rebuilt sidecar does not send it what became true before
    since: int
    mirrored: bool
    failing_since: int | None
    last_error: str | None
    last_success_at: int | None
    created_at: int
    updated_at: int
    #: user and password, or token, of a NATS server, sealed
    sealed_credentials: str | None = None
    #: unix seconds; until then the older secrets sign beside the newest
    old_secrets_until: int = 0
    #: failed attempts since the last success
    failures: int = 0
    last_failure_at: int | None = None
    #: unix seconds before which nothing is sent to it
    resume_at: int = 0


class DeliveryStatus(str, Enum):
    PENDING = "pending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One event on its way to one endpoint."""

    sequence: int
    endpoint_id: str
    status: DeliveryStatus
    attempts: int
    #: unix seconds at which the next attempt may start
    due_at: int
    last_attempt_at: int | None
    #: HTTP status of the last answer; None when there was none
    last_status: int | None
    last_error: str | None
    delivered_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxEvent:
    """An event as it stands in the outbox."""

    #: order in this sidecar; a rebuilt one counts anew
    sequence: int
    id: str
    type: str
    subject: str
    paycode_id: str | None
    timestamp: int
    data: dict[str, Any]


class NodeInvoice(NamedTuple):
    """What the node says of one invoice (`listinvoices`). A tuple, as all of what a run over all invoices makes many
    thousands of: they are made in a fifth of the time of a frozen dataclass.
    """

    label: str
    payment_hash: str
    #: `unpaid`, `paid` or `expired`
    status: str
    amount_msat: int | None
    received_msat: int | None
    bolt11: str | None
    expires_at: int
    paid_at: int | None
    created_index: int
    updated_index: int | None
    description: str | None
    #: of an invoice that the node made for an offer: which, its string, and what the payer wrote
    offer_id: str | None = None
    bolt12: str | None = None
    payer_note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeOffer:
    """What the node says of one offer (`listoffers`, `offer`)."""

    offer_id: str
    bolt12: str
    label: str | None
    active: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """An offer that a code has or had."""

    offer_id: str
    promise: Promise
    bolt12: str
    #: the node makes invoices for it
    active: bool
    #: payments that came in by it, and their sum
    paid: int
    received_msat: int
    created_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePayment:
    """What the node says of one part of an outgoing payment (`listsendpays`)."""

    payment_hash: str
    groupid: int
    partid: int
    #: `pending`, `complete` or `failed`
    status: str
    amount_msat: int | None
    amount_sent_msat: int | None
    label: str | None
    created_at: int
    completed_at: int | None
    created_index: int
    updated_index: int | None
