"""One webhook: an event, signed as Standard Webhooks says, sent once."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import urllib3
from standardwebhooks.webhooks import Webhook
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import parse_url

from .. import __version__
from ..core.retry import Answer
from ..errors import BadParameter
from .publisher import DEADLINE_S, Message
from .timer import Timer

CONNECT_TIMEOUT_S = 10
#: Standard Webhooks: 15 to 30 s.
READ_TIMEOUT_S = 20

#: Of an answer's body this much is read within this time, so that the connection can be used again; nothing of it is
#: kept.
_BODY_BYTES = 4096
_BODY_TIMEOUT_S = 2.0

_USER_AGENT = f"cln-paycodes/{__version__}"


def check_host(url: str, *, name: str) -> None:
    """BadParameter, which begins with `name`, when no request can be sent to the host of an http:// or https:// URL."""
    try:
        parse_url(url)
    except exceptions.LocationParseError:
        raise BadParameter(f"{name}: its host is not a name or address; write one as the DNS has it") from None


class WebhookPublisher:
    """Keeps the connection to its endpoint open; `timer` ends attempts that outlast `deadline_s`.

    It works with urllib3's connection itself: there is one receiver, and neither a pool nor redirects nor retries.
    """

    def __init__(self, url: str, timer: Timer, *, deadline_s: float = DEADLINE_S) -> None:
        parts = parse_url(url)
        assert parts.host is not None
        kind = _TlsConnection if parts.scheme == "https" else _Connection
        self._connection = kind(parts.host.strip("[]"), parts.port)
        self._connection.watch = self._watch = _Watch(timer, deadline_s)
        self._target = parts.request_uri

    def publish(self, message: Message, *, secrets: list[str], now: int) -> Answer:
        moment = datetime.fromtimestamp(now, timezone.utc)
        signatures = [Webhook(secret).sign(message.id, moment, message.body) for secret in secrets]
        headers = {
            "user-agent": _USER_AGENT,
            "content-type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(now),
            "webhook-signature": " ".join(signatures),
        }
        with self._watch:
            try:
                response = self._post(message.body.encode(), headers)
            except Exception as e:  # also what a hostile answer makes http.client raise
                self._connection.close()
                return Answer(status=None, error=_TOO_SLOW if self._watch.expired else _reason(e))
            self._finish(response)
        status = response.status
        return Answer(
            status=status,
            retry_after_s=_retry_after(response.headers.get("retry-after"), now),
            error=None if 200 <= status < 300 else f"HTTP {status}",
        )

    def _post(self, body: bytes, headers: dict[str, str]) -> urllib3.HTTPResponse:
        connection = self._connection
        if connection.sock is None or not connection.is_connected:
            connection.close()
            connection.timeout = CONNECT_TIMEOUT_S
        connection.request(
            "POST", self._target, body=body, headers=headers, preload_content=False, decode_content=False
        )
        connection.timeout = READ_TIMEOUT_S
        response = connection.getresponse()
        if self._watch.expired:
            raise TimeoutError  # http.client takes a header that was cut off for a whole one
        return response

    def _finish(self, response: urllib3.HTTPResponse) -> None:
        """Keep the connection if the body is short and there, else close it: the status is all that counts."""
        try:
            if response.length_remaining != 0:
                self._watch.hurry(_BODY_TIMEOUT_S)
                response.read(_BODY_BYTES)
                if response.read(1):
                    self._connection.close()
            response.close()
        except Exception:  # the answer was given before its body broke off
            self._connection.close()

    def close(self) -> None:
        self._connection.close()


class _Watch:
    """Cuts an attempt off at its deadline, from the timer's thread: a read time-out alone lets a receiver drip."""

    def __init__(self, timer: Timer, deadline_s: float) -> None:
        self._timer = timer
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._deadline: float | None = None
        self._armed = False
        self.expired = False

    def __enter__(self) -> None:
        with self._lock:
            self._deadline = time.monotonic() + self._deadline_s
            self.expired = False
            if not self._armed:
                self._armed = True
                self._timer.after(self._deadline_s, self._look)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._deadline = None

    def connected(self, sock: socket.socket | None) -> None:
        """The attempt goes over this socket."""
        with self._lock:
            self._sock = sock

    def hurry(self, timeout_s: float) -> None:
        """From here on the far side may pause for this long only."""
        with self._lock:
            if self._sock is not None:
                self._sock.settimeout(timeout_s)

    def _look(self) -> None:
        with self._lock:
            if self._deadline is None:
                self._armed = False
                return
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                self.expired = True
                if self._sock is not None:
                    # The plain socket's: under TLS there would be a handshake. A blocked read ends by it.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
            self._timer.after(max(left_s, 1.0), self._look)


class _Watched:
    """Shows a connection's socket to the watch, from before the TLS handshake on."""

    watch: _Watch
    sock: socket.socket | None

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]  # urllib3's connection comes next in line
        # TLS takes the descriptor over, so that the handshake can only be cut off by a second one.
        self._handshake = sock.dup()
        self.watch.connected(self._handshake)
        return sock

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]  # as above
        finally:
            self.watch.connected(self.sock)
            if (handshake := getattr(self, "_handshake", None)) is not None:
                handshake.close()


class _Connection(_Watched, HTTPConnection):
    """To an http:// URL."""


class _TlsConnection(_Watched, HTTPSConnection):
    """To an https:// URL; the certificate is checked against those that the system trusts."""


_TOO_SLOW = f"no complete answer within {DEADLINE_S:g} s"


def _reason(error: Exception) -> str:
    """A sentence for `last_error`: what went wrong, without object addresses or the URL's query."""
    if isinstance(error, exceptions.NameResolutionError):
        return "the host name does not resolve"
    if isinstance(error, exceptions.NewConnectionError):
        return "the connection was refused"
    if isinstance(error, exceptions.ConnectTimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_S} s"
    if isinstance(error, TimeoutError):
        return f"no answer within {READ_TIMEOUT_S} s"
    if isinstance(error, (ssl.SSLError, ssl.CertificateError, exceptions.SSLError)):
        return "the TLS certificate or handshake was not accepted"
    return f"the connection failed ({type(error).__name__})"


def _retry_after(value: str | None, now: int) -> int | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3), None when there is none or it makes no sense."""
    if value is None:
        return None
    if value.strip().isdecimal() and value.isascii():
        return int(value.strip()[:9])
    try:
        return max(0, int(parsedate_to_datetime(value).timestamp()) - now)
    except (TypeError, ValueError, OverflowError):
        return None
