"""The LNURL routes: resolve a code, get an invoice, ask whether it was paid.

Every answer is JSON with HTTP status 200 and open to scripts of any origin, errors too (LUD-06).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..core.json_text import compact
from ..core.lnurl import read_callback
from ..core.records import Paycode
from ..errors import PaycodesError, describe
from ..services.wallets import reason
from .context import Context, TurnedAway

log = logging.getLogger(__name__)

_METHODS = ("GET", "HEAD", "OPTIONS")
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": ", ".join(_METHODS),
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}
_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
TOO_MANY = "too many requests: try again in a minute"

Answer = dict[str, Any]
Handler = Callable[[Request], Awaitable[Answer]]


def answer(fields: Answer) -> Response:
    body = compact(fields)
    return Response(body, media_type="application/json", headers=_HEADERS)


def refusal(why: str) -> Response:
    return answer({"status": "ERROR", "reason": why})


class LnurlRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._wallets = context.wallets

    def routes(self) -> list[Route]:
        user, code = "/.well-known/lnurlp/{user}", "/lnurlp/{paycode_id}"
        return [
            _route(code + "/callback", self._callback, makes=True),
            _route(user + "/callback", self._callback, makes=True),
            _route(code, self._resolve),
            _route(user, self._resolve),
            _route("/verify/{payment_hash}", self._verify),
        ]

    # --- handlers ---

    def _paycode(self, request: Request) -> Paycode:
        user = request.path_params.get("user")
        paycode = (
            self._wallets.by_id(request.path_params["paycode_id"]) if user is None else self._wallets.by_user(user)
        )
        request.state.paycode = paycode
        return paycode

    async def _resolve(self, request: Request) -> Answer:
        await self._context.may_ask(request)
        return self._wallets.pay_request(self._paycode(request))

    async def _callback(self, request: Request) -> Answer:
        await self._context.may_ask(request)
        paycode = self._paycode(request)
        asked = read_callback(dict(request.query_params))
        return await self._context.make(request, paycode.paycode_id, lambda: self._wallets.pay(paycode, asked))

    async def _verify(self, request: Request) -> Answer:
        await self._context.may_ask(request)
        return self._wallets.verify(request.path_params["payment_hash"])


def _route(path: str, handler: Handler, *, makes: bool = False) -> Route:
    return Route(path, _Endpoint(handler, makes=makes), methods=list(_METHODS))


class _Endpoint:
    """An ASGI application of its own: Starlette puts nothing around it, as it does around a function."""

    def __init__(self, handler: Handler, *, makes: bool) -> None:
        self._handler = handler
        self._makes = makes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._response(Request(scope))
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=_CORS)
        if request.method == "HEAD" and self._makes:
            return answer({})  # a HEAD must not leave an invoice behind
        return await _answered(self._handler, request)


async def _answered(handler: Handler, request: Request) -> Response:
    """The one place where errors become LNURL errors."""
    try:
        return answer(await handler(request))
    except TurnedAway:
        return refusal(TOO_MANY)
    except PaycodesError as e:
        return refusal(reason(e, getattr(request.state, "paycode", None)))
    except Exception as e:
        log.error("an LNURL request failed: %s", describe(e))
        return refusal("an unexpected error: try again later")
