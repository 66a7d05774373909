"""The node's part of an invoice: it makes one that it lists, or signs one that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from ..core.keys import InvoiceKeys
from ..core.records import Invoice
from ..errors import NodeUnknown
from ..node.port import Issued, Node, Wanted
from .adoption import is_listed
from .registry import Registry
from .signing import Signer


class Mint:
    def __init__(self, node: Node, registry: Registry, signer: Signer, *, clock: Callable[[], int]) -> None:
        self._node = node
        self._registry = registry
        self._signer = signer
        self._clock = clock

    def begin(self, row: Invoice, *, expiry_s: int | None = None) -> Future[Issued]:
        """Have the node make and list the invoice of a row, for as long as its string says or for `expiry_s`."""
        description = row.description
        if description is None:
            description = self._registry.find(row.paycode_id).terms.description
        return self._node.begin_invoice(
            Wanted(
                label=row.label,
                amount_msat=row.amount_msat,
                description=description,
                description_hashed=row.description_hashed,
                expiry_s=expiry_s or max(1, row.expires_at - self._clock()),
                preimage=self._keys(row).preimage,
            )
        )

    def make(self, row: Invoice, *, expiry_s: int | None = None) -> Issued:
        """The same, waited for; a connection lost on the way is tried once more (a repeat is harmless)."""
        try:
            return self.begin(row, expiry_s=expiry_s).result()
        except NodeUnknown:
            return self.begin(row, expiry_s=expiry_s).result()

    def was_told_at_issue(self, row: Invoice) -> bool:
        """The node knows the invoices of its code from the start."""
        return is_listed(self._registry.find(row.paycode_id).terms)

    @property
    def can_sign_at_once(self) -> bool:
        """`begin_signature` waits for nothing."""
        return self._signer.is_ready

    def begin_signature(self, row: Invoice) -> Future[str]:
        """The string of an invoice that the node does not get to know yet."""
        return self._signer.begin(row, self._keys(row))

    def _keys(self, row: Invoice) -> InvoiceKeys:
        root = self._registry.root_by_id(row.paycode_id)
        assert root is not None  # codes are never deleted
        return root.invoice(row.index)
