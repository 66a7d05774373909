"""The ASGI application: routes, and what holds for all of them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .context import Context
from .lnurl_routes import LnurlRoutes
from .page import refused_page
from .page_routes import PageRoutes


def application(context: Context) -> Starlette:
    async def health(_: Request) -> Response:
        healthy = await context.read(context.is_healthy)
        return JSONResponse({"status": "ok" if healthy else "failing"}, 200 if healthy else 503)

    return Starlette(
        routes=[
            *LnurlRoutes(context).routes(),
            *PageRoutes(context).routes(),
            Route("/healthz", health),
        ],
        exception_handlers={404: _not_found},
    )


async def _not_found(_: Request, __: Exception) -> Response:
    return refused_page(status_code=404, verdict="Not found", why="there is nothing at this address")
