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
    """An entry of `listinvoices`; by place, as names would take as long again as all the rest."""
    may = entry.get
    return NodeInvoice(
        entry["label"],
        entry["payment_hash"],
        entry["status"],
        may("amount_msat"),
        may("amount_received_msat"),
        may("bolt11"),
        entry["expires_at"],
        may("paid_at"),
        entry["created_index"],
        may("updated_index"),
        may("description"),
        may("local_offer_id"),
        may("bolt12"),
        may("invreq_payer_note"),
    )
