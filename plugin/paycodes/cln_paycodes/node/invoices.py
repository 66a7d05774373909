"""The node's list of invoices, page by page, over a connection of its own.

The thread that walks reads its answers itself: another one to read them would take turns with it for the interpreter.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from ..core.framing import Frames
from ..core.records import NodeInvoice
from ..errors import NodeUnknown
from .wire import LOST, failed, open_socket, request, result_of, too_late

_METHOD = "listinvoices"


class InvoiceWalk:
    """One walk, by one thread; another may `interrupt` it."""

    def __init__(self, socket_path: str, *, timeout_s: float) -> None:
        """Raises NodeUnknown when the node is away."""
        self._timeout_s = timeout_s
        self._frames = Frames()
        try:
            self._sock = open_socket(socket_path, send_timeout_s=timeout_s, receive_timeout_s=timeout_s)
        except OSError as e:
            raise failed(_METHOD, e) from e

    def pages(self, *, index: str, start: int, last: int, limit: int) -> Iterator[tuple[list[NodeInvoice], int]]:
        """Each page from `start` to `last`, and how far it reaches; NodeRefused, or NodeUnknown when none came in time.

        The next page is on its way while this one is worked on, and never more: what is found in its socket
        lightningd answers before it looks after others.
        """
        self._ask(index, start, limit)
        while True:
            page = self._page()
            reached = min(last, _place(page[-1], index)) if len(page) == limit else last
            if reached < last:
                self._ask(index, reached + 1, limit)
            yield page, reached
            if reached >= last:
                return

    def _ask(self, index: str, start: int, limit: int) -> None:
        asked = request(f"cln-paycodes:{_METHOD}#{start}", _METHOD, {"index": index, "start": start, "limit": limit})
        try:
            self._sock.sendall(asked)
        except OSError as e:
            raise failed(_METHOD, e) from e

    def _page(self) -> list[NodeInvoice]:
        while not (answers := self._frames.of(self._receive())):
            pass
        try:
            return [invoice_of(entry) for entry in result_of(_METHOD, json.loads(answers[0]))["invoices"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise failed(_METHOD, e) from e

    def _receive(self) -> bytes:
        try:
            chunk = self._sock.recv(1 << 18)
        except BlockingIOError as e:
            raise too_late(_METHOD, self._timeout_s) from e
        except OSError as e:
            raise failed(_METHOD, e) from e
        if not chunk:
            raise NodeUnknown(LOST)
        return chunk

    def interrupt(self) -> None:
        """Have the thread that waits for a page raise NodeUnknown now: a blocked recv() ends by shutdown(), not by
        close().
        """
        with contextlib.suppress(OSError):  # it is gone already
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """By the thread that walked."""
        self._sock.close()


def _place(entry: NodeInvoice, index: str) -> int:
    """Its place by `created` or `updated`; 0 when it was never updated."""
    return entry.created_index if index == "created" else entry.updated_index or 0


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
