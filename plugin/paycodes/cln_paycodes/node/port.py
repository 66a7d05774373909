"""The calls that the plugin makes to its node, and nothing more.

Every method raises `NodeRefused` when the node answered with an error (nothing happened there), and `NodeUnknown`
when no answer came (it may have happened: ask again). Amounts are msat, times unix seconds, hashes and keys hex
unless bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..core.records import NodeInvoice, NodePayment

#: CLN's error codes that the plugin decides by (`common/jsonrpc_errors.h`, v26.06).
INVOICE_LABEL_ALREADY_EXISTS = 900
INVOICE_PREIMAGE_ALREADY_EXISTS = 901
DATASTORE_DEL_DOES_NOT_EXIST = 1200
METHOD_NOT_FOUND = -32601


@dataclass(frozen=True, kw_only=True, slots=True)
class Datum:
    """One leaf of the node's datastore; `text` is None when it is not UTF-8."""

    key: tuple[str, ...]
    text: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """What the node answers to `invoice`."""

    bolt11: str
    payment_hash: str
    expires_at: int
    created_index: int


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

    def create_invoice(
        self,
        *,
        label: str,
        amount_msat: int,
        description: str,
        description_hashed: bool,
        expiry_s: int,
        preimage: bytes,
    ) -> Issued:
        """An invoice with its description, or (`description_hashed`) with only the hash of it, of any length then."""

    def invoice_by_label(self, label: str) -> NodeInvoice | None: ...

    def invoices(self, *, index: str, start: int, limit: int) -> list[NodeInvoice]:
        """A page by `created` or `updated` index, from `start` (1 at least) on."""

    def payments(self, *, index: str, start: int, limit: int) -> list[NodePayment]:
        """A page of the parts of outgoing payments, likewise."""

    def payments_of(self, payment_hash: str) -> list[NodePayment]:
        """All parts of the outgoing payments of one hash."""

    def last_index(self, *, subsystem: str, index: str) -> int:
        """The highest `created`, `updated` or `deleted` index of `invoices` or `sendpays`; 0 when there was none."""

    def wait_index(self, *, subsystem: str, index: str, value: int) -> None:
        """Return once the index has reached `value`: parked at the node, without a time limit."""

    def close(self) -> None:
        """Give up all calls that are under way; those that wait raise NodeUnknown."""
