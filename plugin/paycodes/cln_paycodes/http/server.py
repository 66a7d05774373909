"""The HTTP server: uvicorn in a thread of its own, with an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
#: Requests of a connection that wait for the answer to the one before.
PIPELINED_MOST = 16
#: Seconds that open connections have to end when the plugin stops.
STOP_S = 2

_BACKLOG = 512

#: How many `Host` headers a request has, by its version (RFC 9112, 3.2).
_HOSTS = {"1.1": (1,), "1.0": (0, 1)}
_TOO_LONG = "431 Request Header Fields Too Large"


class _Refused(Exception):
    """Raised in a callback of the parser, which then parses no more."""


class BoundedProtocol(HttpToolsProtocol):
    """Ends what uvicorn itself would keep for ever, or read: a request whose head is too long or that comes too slowly,
    more requests than answers, and a connection too many of an address.
    """

    #: set on a server's own subclass
    limits: Limits
    _deadline: asyncio.TimerHandle | None = None
    _peer: str | None = None
    #: all of the last request has come, and nothing behind it
    _is_whole = False
    _in_head = False
    #: bytes of a head or trailer that the parser has passed on, and those that it was fed with since
    _passed_on = 0
    _fed = 0
    _refusal = "400 Bad Request"
    _is_refused = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = self.client[0] if self.client is not None else "unknown"
        if self.limits.connect(peer):
            self._peer = peer
            self._wait_for_request()
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return  # it is open for the answer to what came before
        self._is_whole = False
        self._fed += len(data)
        super().data_received(data)
        if self._passed_on + self._fed > HEADER_BYTES and not self._is_refused:
            self._refusal = _TOO_LONG
            self.send_400_response("This request is too long.")
        if self._is_whole:
            self._stop_waiting()
        else:
            self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._peer is not None:
            self.limits.disconnect(self._peer)
        super().connection_lost(exc)

    # --- what the parser finds ---

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED_MOST:
            raise _Refused
        self._in_head = True
        self._passed_on = self._fed = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(": \r\n"))
        if self._in_head:  # not in a trailer
            super().on_header(name, value)

    def _count(self, length: int) -> None:
        self._passed_on += length
        self._fed = 0
        if self._passed_on > HEADER_BYTES:
            self._refusal = _TOO_LONG
            raise _Refused

    def on_headers_complete(self) -> None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts not in _HOSTS.get(self.parser.get_http_version(), ()):
            raise _Refused
        self._in_head = False
        self._passed_on = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._fed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_whole = True
        self._passed_on = self._fed = 0
        super().on_message_complete()

    # --- ending it ---

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls it as well, when the parser has failed."""
        self._is_refused = True
        if self._is_answering:
            self.cycle.keep_alive = False  # what was asked before gets its answer
            return
        head = (
            f"HTTP/1.1 {self._refusal}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {len(msg)}"
        )
        self.transport.write(f"{head}\r\n\r\n{msg}".encode())
        self.transport.close()

    @property
    def _is_answering(self) -> bool:
        """A request that has come as a whole has no answer yet."""
        cycle = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete and not cycle.more_body)

    def _wait_for_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self._cut_off)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut_off(self) -> None:
        self._deadline = None
        if self._is_answering:
            self._wait_for_request()
        else:
            self.transport.close()


class HttpServer:
    def __init__(self, context: Context, sock: socket.socket) -> None:
        """Starts to answer on a listening socket."""
        self._sock = sock
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(context),
                loop="uvloop",
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
            )
        )
        # What strangers send wrong is not worth a line each.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._thread = threading.Thread(target=self._run, name="paycodes-http", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._sock])
        except Exception as e:
            log.error("the HTTP server has ended: %s", describe(e))
        finally:
            self._sock.close()

    def stop(self) -> None:
        """Close the port and end what is open."""
        self._server.should_exit = True
        self._thread.join(STOP_S + 1)


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
