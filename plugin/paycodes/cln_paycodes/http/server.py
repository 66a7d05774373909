"""The HTTP server: uvicorn in a thread of its own, with an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import describe
from .application import application
from .context import Context
from .limits import Limits
from .settings import Address

log = logging.getLogger(__name__)

#: Connections at a time, live pages among them; one more gets 503.
CONNECTIONS_MOST = 512
#: Seconds in which a request must have arrived as a whole, and that an idle connection stays open.
REQUEST_S = 10.0
KEEP_ALIVE_S = 15
#: Bytes of a request's line and headers: a comment of 2000 characters is up to 24 kB in a URL.
HEADER_BYTES = 65_536
#: Seconds that open connections have to end when the plugin stops.
STOP_S = 2

_BACKLOG = 512


class BoundedProtocol(H11Protocol):
    """Closes what uvicorn itself would keep for ever: a connection that sends its request too slowly, or one too many
    of an address.
    """

    #: set on a server's own subclass
    limits: Limits
    _deadline: asyncio.TimerHandle | None = None
    _peer: str | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = self.client[0] if self.client is not None else "unknown"
        if self.limits.connect(peer):
            self._peer = peer
            self._wait_for_request()
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._wait_for_request()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._peer is not None:
            self.limits.disconnect(self._peer)
        super().connection_lost(exc)

    def _wait_for_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class HttpServer:
    def __init__(self, context: Context, sock: socket.socket) -> None:
        """Starts to answer on a listening socket."""
        self._context = context
        self._sock = sock
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(context),
                http=type("Protocol", (BoundedProtocol,), {"limits": context.limits}),
                ws="none",
                lifespan="off",
                # The plugin's stdout is the wire to lightningd, and has no isatty for uvicorn's formatter.
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=CONNECTIONS_MOST,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_S,
                h11_max_incomplete_event_size=HEADER_BYTES,
            )
        )
        # What strangers send wrong is not worth a line each.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._thread = threading.Thread(target=self._run, name="paycodes-http", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._sock]))
        except Exception as e:
            log.error("the HTTP server has ended: %s", describe(e))
        finally:
            self._sock.close()

    def stop(self) -> None:
        """Close the port and end what is open."""
        self._server.should_exit = True
        self._thread.join(STOP_S + 1)
        self._context.stop()


def listening_socket(address: Address) -> socket.socket:
    """Raises OSError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only for a socket that names its protocol.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        sock.set_inheritable(False)
    except OSError:
        sock.close()
        raise
    return sock
