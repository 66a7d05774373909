"""The calls that the plugin makes to its node, and nothing more.

Every method raises `NodeRefused` when the node answered with an error (nothing happened there), and `NodeUnknown`
when no answer came (it may have happened: ask again). Amounts are msat, times unix seconds, hashes and keys hex
unless bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ..core.htlcs import IncomingHtlc
from ..core.records import NodeInvoice, NodeOffer, NodePayment
from ..core.routehints import IncomingChannel

#: CLN's error codes that the plugin decides by (`common/jsonrpc_errors.h`, v26.06).
INVOICE_LABEL_ALREADY_EXISTS = 900
INVOICE_PREIMAGE_ALREADY_EXISTS = 901
DATASTORE_DEL_DOES_NOT_EXIST = 1200
OFFER_ALREADY_DISABLED = 1001
OFFER_ALREADY_ENABLED = 1006
METHOD_NOT_FOUND = -32601


@dataclass(frozen=True, kw_only=True, slots=True)
class Datum:
    """One leaf of the node's datastore; `text` is None when it is not UTF-8."""

    key: tuple[str, ...]
    text: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """An invoice that the node is to make."""

    label: str
    amount_msat: int
    description: str
    #: it gets only the hash of the description, which may be of any length then
    description_hashed: bool
    expiry_s: int
    preimage: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """What the node answers to that."""

    bolt11: str
    payment_hash: str
    expires_at: int
    created_index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit:
    """Money that came in, by the bookkeeper."""

    amount_msat: int
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InvoiceTraits:
    """What all invoices of a node have in common."""

    #: the prefix of its network (BOLT 11)
    currency: str
    #: feature bits of its invoices
    features: int
    #: blocks that a payer leaves for the last hop (`cltv-final`)
    final_cltv_blocks: int
    #: it adds something that only itself can: a fronting node, an address on chain
    adds_more: bool


class InvoicePages(Iterator[list[NodeInvoice]], Protocol):
    """Pages of the node's list, the next one asked for while this one is worked on."""

    #: the index up to which the pages handed out so far reach
    reached: int

    def is_near(self, within_s: float) -> bool:
        """The next page begins to arrive in so many seconds, or there is none."""


class Node(Protocol):
    def node_id(self) -> str: ...

    def make_secret(self, label: str) -> bytes:
        """32 bytes that the same hsm_secret always gives."""

    def read_datastore(self, *key: str) -> list[Datum]:
        """The leaves below a key; an empty list when there are none."""

    def write_datastore(self, key: tuple[str, ...], text: str) -> None:
        """Create or replace one leaf."""

    def delete_datastore(self, key: tuple[str, ...]) -> None:
        """Remove one leaf; one that is not there is no error."""

    def begin_invoice(self, wanted: Wanted) -> Future[Issued]:
        """Have the node make an invoice; what is done with the answer is done in the reading thread: keep it short."""

    def invoice_by_label(self, label: str) -> NodeInvoice | None: ...

    def begin_look(self, label: str) -> Future[NodeInvoice | None]:
        """The same, asked for now and answered later."""

    def invoices(self, *, index: str, start: int, limit: int) -> list[NodeInvoice]:
        """A page by `created` or `updated` index, from `start` (1 at least) on."""

    def invoice_walk(self, *, index: str, start: int, last: int, limit: int) -> AbstractContextManager[InvoicePages]:
        """Every page likewise from `start` to `last`, which is not before it."""

    def payments(self, *, index: str, start: int, limit: int) -> list[NodePayment]:
        """A page of the parts of outgoing payments, likewise."""

    def payments_of(self, payment_hash: str) -> list[NodePayment]:
        """All parts of the outgoing payments of one hash."""

    def last_index(self, *, subsystem: str, index: str) -> int:
        """The highest `created`, `updated` or `deleted` index of `invoices` or `sendpays`; 0 when there was none."""

    def bookkeeper_credit(self, payment_hash: str) -> Credit | None:
        """What the built-in bookkeeper knows to have come in under a hash; NodeRefused where it is disabled."""

    def incoming_htlcs(self) -> list[IncomingHtlc]:
        """The HTLCs towards us that are still in a channel."""

    def block_height(self) -> int: ...

    def tip_height(self) -> int | None:
        """The block height once that is the chain's; None while the node is catching up with it."""

    def cltv_delta(self) -> int:
        """Blocks that the node asks for between an incoming and an outgoing HTLC (`cltv-delta`)."""

    def cltv_final(self) -> int:
        """Blocks that the node asks of an HTLC that ends at it (`cltv-final`)."""

    def invoice_traits(self) -> InvoiceTraits: ...

    def incoming_channels(self) -> list[IncomingChannel]:
        """Our channels as ways to us; none where the node cannot tell."""

    def begin_creation(self, bolt11: str, *, label: str, preimage: bytes) -> Future[Issued]:
        """Have the node sign an invoice and list it; the answer comes after the commit.

        NEVER with a payment hash that the node has under another label: that ends lightningd.
        """

    def begin_search(self, payment_hash: str) -> Future[bool]:
        """Whether the node has an invoice with this hash."""

    def begin_signature(self, bolt11: str) -> Future[str]:
        """The invoice with the node's signature; the node does not store it."""

    def delete_unpaid_invoice(self, label: str) -> None:
        """Remove an invoice that has not been paid; NodeRefused when it is in another state or not there."""

    def wait_index(self, *, subsystem: str, index: str, value: int) -> None:
        """Return once the index has reached `value`: parked at the node, without a time limit."""

    def offers(self) -> list[NodeOffer]:
        """All offers of the node."""

    def make_offer(self, *, amount_msat: int | None, description: str, label: str, issuer: str | None) -> NodeOffer:
        """A new BOLT 12 offer for one amount or (None) any, or an older one with the same content and its own
        label.
        """

    def enable_offer(self, offer_id: str) -> None: ...

    def disable_offer(self, offer_id: str) -> None: ...

    def close(self) -> None:
        """Give up all calls that are under way; those that wait raise NodeUnknown."""
