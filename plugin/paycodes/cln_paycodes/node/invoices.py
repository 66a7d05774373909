"""The node's list of invoices, page by page, over a connection of its own.

Whoever walks reads the answers: another thread to read them would take turns with it for the interpreter.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Iterator
from typing import Any

from ..core.framing import Frames
from ..core.records import NodeInvoice
from ..errors import NodeUnknown
from .wire import LOST, failed, open_socket, request, result_of, too_late

_METHOD = "listinvoices"


class InvoiceWalk:
    """One walk from an index to a later one, page by page, by one thread at a time; another may `interrupt` it.

    The next page is on its way while this one is worked on, and never more: what is found in its socket lightningd
    answers before it looks after others.
    """

    def __init__(self, socket_path: str, *, index: str, start: int, last: int, limit: int, timeout_s: float) -> None:
        """From `start` to `last`; raises NodeUnknown when the node is away."""
        self._index, self._last, self._limit, self._timeout_s = index, last, limit, timeout_s
        #: how far the pages handed out so far reach
        self.reached = start - 1
        self._frames = Frames()
        try:
            self._sock = open_socket(socket_path, send_timeout_s=timeout_s, receive_timeout_s=timeout_s)
        except OSError as e:
            raise failed(_METHOD, e) from e
        self._arrived = select.poll()
        self._arrived.register(self._sock, select.POLLIN)

    def begin(self) -> None:
        """Ask for the first page."""
        self._ask(self.reached + 1)

    def __iter__(self) -> Iterator[list[NodeInvoice]]:
        return self

    def __next__(self) -> list[NodeInvoice]:
        """The next page; NodeRefused, or NodeUnknown when none came in time."""
        if self.reached >= self._last:
            raise StopIteration
        page = self._page()
        self.reached = min(self._last, _place(page[-1], self._index)) if len(page) == self._limit else self._last
        if self.reached < self._last:
            self._ask(self.reached + 1)
        return page

    def is_near(self, within_s: float) -> bool:
        """The next page begins to arrive in so many seconds, or there is none."""
        return self.reached >= self._last or bool(self._arrived.poll(within_s * 1000))

    def _ask(self, start: int) -> None:
        params = {"index": self._index, "start": start, "limit": self._limit}
        try:
            self._sock.sendall(request(f"cln-paycodes:{_METHOD}#{start}", _METHOD, params))
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
        """Once nobody walks any more."""
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
