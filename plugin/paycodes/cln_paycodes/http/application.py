"""The ASGI application: routes, and what holds for all of them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from .context import Context
from .lnurl_routes import LnurlRoutes
from .page import refused_page
from .page_routes import PageRoutes


def application(context: Context) -> Router:
    """A router alone: its routes answer errors themselves, and each of Starlette's layers costs every request."""

    async def health(_: Request) -> Response:
        healthy = context.is_healthy()
        return JSONResponse({"status": "ok" if healthy else "failing"}, 200 if healthy else 503)

    return Router(
        routes=[
            *LnurlRoutes(context).routes(),
            *PageRoutes(context).routes(),
            Route("/healthz", health),
        ],
        default=_not_found,
    )


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    page = refused_page(status_code=404, verdict="Not found", why="there is nothing at this address")
    await page(scope, receive, send)
