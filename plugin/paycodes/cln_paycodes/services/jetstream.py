"""One NATS JetStream: an event, published under its id, acknowledged by the stream before it counts.

`nats-py` is an optional extra. Its client wants a running event loop, for its keepalive too, so each endpoint that is
being sent to has one in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ssl
import threading
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from ..core.retry import Answer
from ..core.urls import subject_of
from .publisher import DEADLINE_S, Message

CONNECT_TIMEOUT_S = 10

#: Seconds in which the stream must say that it has stored an event.
ACK_TIMEOUT_S = 15

_NO_TLS = "the server does not want TLS"

INSTALL = "NATS endpoints need the package nats-py: pip install it where the plugin runs, then restart the plugin"


def is_available() -> bool:
    """The optional extra is installed."""
    return importlib.util.find_spec("nats") is not None


class StreamPublisher:
    """Keeps the connection to its server open, and makes a new one when it was lost."""

    def __init__(self, url: str, credentials: str | None) -> None:
        """`url` is nats:// or tls:// without `credentials`, which are `user:password` or a token."""
        parts = urlsplit(url)
        self._server = f"{parts.scheme}://{parts.netloc}"
        self._tls = parts.scheme == "tls"
        self._subject = subject_of(url)
        user, colon, password = (credentials or "").partition(":")
        self._identity: dict[str, Any] = {}
        if colon:
            self._identity = {"user": unquote(user), "password": unquote(password)}
        elif user:
            self._identity = {"token": unquote(user)}
        self._client: Any = None
        self._last_error: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def publish(self, message: Message, *, secrets: list[str], now: int) -> Answer:  # noqa: ARG002 (the server knows us)
        if not is_available():
            return Answer(status=None, error=INSTALL)
        future = asyncio.run_coroutine_threadsafe(self._publish(message), self._running_loop())
        try:
            future.result(DEADLINE_S)
        except Exception as e:  # whatever the server or the way to it does
            future.cancel()
            return Answer(status=None, error=self._reason(e))
        return Answer(status=None, stored=True)

    def close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None:
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._disconnect(), loop).result(2)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(2)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run, args=(self._loop,), name="paycodes-nats", daemon=True)
            self._thread.start()
        return self._loop

    async def _publish(self, message: Message) -> None:
        if self._client is None or not self._client.is_connected:
            await self._disconnect()
            await asyncio.wait_for(self._connect(), CONNECT_TIMEOUT_S)
        await self._client.jetstream().publish(
            f"{self._subject}.{message.type}",
            message.body.encode(),
            timeout=ACK_TIMEOUT_S,
            headers={"Nats-Msg-Id": message.id},
        )

    async def _connect(self) -> None:
        from nats.aio.client import Client  # the extra may be missing

        client = Client()
        context = _tls_context() if self._tls else None

        def after_tls(value: str) -> str:
            """The client asks for credentials when it sends them."""
            if context is not None and not context.used:
                raise ssl.SSLError(_NO_TLS)
            return value

        identity: dict[str, Any] = {name: partial(after_tls, value) for name, value in self._identity.items()}
        self._last_error = None
        try:
            await client.connect(
                self._server,
                name="cln-paycodes",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT_S,
                tls=context,
                error_cb=self._note,
                **identity,
            )
            after_tls("")
        except BaseException:
            with contextlib.suppress(Exception):
                await client.close()
            raise
        self._client = client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close()

    async def _note(self, error: Exception) -> None:
        self._last_error = error

    def _reason(self, error: Exception) -> str:
        """A sentence for `last_error`; nothing of what the server wrote, which may quote what it was sent."""
        from nats import errors as nats_errors
        from nats.js.errors import APIError, NoStreamResponseError

        if isinstance(error, NoStreamResponseError):
            return f"no stream of the NATS server takes the subjects {self._subject}.>"
        if isinstance(error, APIError):
            return f"the stream refused the event (JetStream error {error.err_code})"
        if isinstance(error, nats_errors.NoServersError) and self._last_error is not None:
            error = self._last_error
        if isinstance(error, ssl.SSLError):
            return "the TLS certificate or handshake was not accepted"
        if isinstance(error, ConnectionRefusedError):
            return "the connection was refused"
        if "authorization" in str(error).lower() or isinstance(error, nats_errors.AuthorizationError):
            return "the NATS server refused the credentials"
        if isinstance(error, TimeoutError | asyncio.TimeoutError | nats_errors.TimeoutError):
            return f"no acknowledgement within {ACK_TIMEOUT_S} s"
        return f"the connection failed ({type(error).__name__})"


class _SeenContext(ssl.SSLContext):
    """Knows whether a connection was ever encrypted: `nats-py` goes on in the clear with a server that wants no TLS."""

    used = False

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        self.used = True
        return super().wrap_bio(*args, **kwargs)


def _tls_context() -> _SeenContext:
    """Certificates are checked against those that the system trusts."""
    context = _SeenContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    return context


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(_cancel_all())
    loop.close()


async def _cancel_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        if task is not None:
            task.cancel()
    await asyncio.gather(*filter(None, left), return_exceptions=True)
