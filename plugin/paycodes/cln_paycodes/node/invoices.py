"""The node's list of invoices, read over a connection of its own by a process that does nothing else: no threads, and
little to import.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from ..core.framing import Frames
from ..core.records import NodeInvoice
from .wire import connect, request


class InvoiceList:
    """Raises OSError when the connection fails or an answer takes too long, ValueError when it is none."""

    def __init__(self, socket_path: str, *, timeout_s: float) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(timeout_s)
        connect(self._sock, socket_path)
        self._frames = Frames()

    def invoices_ahead(self, *, index: str, start: int, limit: int) -> Callable[[], list[NodeInvoice]]:
        """A page, asked for now and waited for later, before the next one is asked for."""
        params = {"index": index, "start": start, "limit": limit}
        self._sock.sendall(request("cln-paycodes:listinvoices", "listinvoices", params))
        return self._page

    def _page(self) -> list[NodeInvoice]:
        while not (answers := self._frames.of(self._receive())):
            pass
        result = json.loads(answers[0]).get("result")
        if result is None:
            raise ValueError("the node refused to list its invoices")
        return [invoice_of(entry) for entry in result["invoices"]]

    def _receive(self) -> bytes:
        chunk = self._sock.recv(1 << 18)
        if not chunk:
            raise OSError("the node has closed the connection")
        return chunk


def invoice_of(entry: dict[str, Any]) -> NodeInvoice:
    """An entry of `listinvoices`."""
    return NodeInvoice(
        label=entry["label"],
        payment_hash=entry["payment_hash"],
        status=entry["status"],
        amount_msat=entry.get("amount_msat"),
        received_msat=entry.get("amount_received_msat"),
        bolt11=entry.get("bolt11"),
        expires_at=entry["expires_at"],
        paid_at=entry.get("paid_at"),
        created_index=entry["created_index"],
        updated_index=entry.get("updated_index"),
        description=entry.get("description"),
        offer_id=entry.get("local_offer_id"),
        bolt12=entry.get("bolt12"),
        payer_note=entry.get("invreq_payer_note"),
    )
