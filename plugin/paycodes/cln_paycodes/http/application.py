"""The ASGI application: routes, and what holds for all of them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .context import Context
from .lnurl_routes import LnurlRoutes


def application(context: Context) -> Starlette:
    async def health(_: Request) -> Response:
        healthy = await context.read(context.is_healthy)
        return JSONResponse({"status": "ok" if healthy else "failing"}, 200 if healthy else 503)

    return Starlette(
        routes=[
            *LnurlRoutes(context).routes(),
            Route("/healthz", health),
        ]
    )
