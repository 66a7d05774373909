"""One webhook: an event, signed as Standard Webhooks says, sent once."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import urllib3
from standardwebhooks.webhooks import Webhook

from .. import __version__
from ..core.retry import Answer

CONNECT_TIMEOUT_S = 10
#: Standard Webhooks: 15 to 30 s.
READ_TIMEOUT_S = 20

#: Of an answer's body this much is read, so that the connection can be used again; nothing of it is kept.
_BODY_BYTES = 4096


class WebhookSender:
    """For one thread at a time: it keeps the connection to its endpoint open."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            headers={"user-agent": f"cln-paycodes/{__version__}", "content-type": "application/json"},
        )

    def send(self, url: str, *, message_id: str, body: str, secrets: list[str], now: int) -> Answer:
        """Send once and say what came back; raises nothing for whatever the far side does."""
        moment = datetime.fromtimestamp(now, timezone.utc)
        signatures = (Webhook(secret).sign(message_id, moment, body) for secret in secrets)
        try:
            response = self._pool.request(
                "POST",
                url,
                body=body.encode(),
                headers={
                    **self._pool.headers,
                    "webhook-id": message_id,
                    "webhook-timestamp": str(now),
                    "webhook-signature": " ".join(signatures),
                },
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            return Answer(status=None, error=_reason(e))
        _finish(response)
        status = response.status
        return Answer(
            status=status,
            retry_after_s=_retry_after(response.headers.get("retry-after"), now),
            error=None if 200 <= status < 300 else f"HTTP {status}",
        )

    def close(self) -> None:
        self._pool.clear()


def _finish(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back if the body is short and there, else close it."""
    try:
        response.read(_BODY_BYTES)
    except (urllib3.exceptions.HTTPError, OSError):
        response.close()
        return
    if response.length_remaining == 0:
        response.release_conn()
    else:
        response.close()


def _reason(error: Exception) -> str:
    """A sentence for `last_error`: what went wrong, without object addresses or the URL's query."""
    cause = error
    while isinstance(cause, urllib3.exceptions.MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    if isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_S} s"
    if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
        return f"no answer within {READ_TIMEOUT_S} s"
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return "the host name does not resolve"
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return "the connection was refused"
    if isinstance(cause, urllib3.exceptions.SSLError):
        return "the TLS certificate or handshake was not accepted"
    return f"the connection failed ({type(cause).__name__})"


def _retry_after(value: str | None, now: int) -> int | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3), None when there is none or it makes no sense."""
    if value is None:
        return None
    if value.strip().isdigit():
        return int(value.strip()[:9])
    try:
        return max(0, int(parsedate_to_datetime(value).timestamp()) - now)
    except (TypeError, ValueError, OverflowError):
        return None
