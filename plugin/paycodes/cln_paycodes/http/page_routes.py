"""The routes of the page for people: the code, its form, an invoice, and the stream that says when it is paid."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from ..core.amounts import limits_text, parse_sat
from ..core.records import Invoice, Paycode
from ..core.terms import PaycodeStatus
from ..errors import (
    AmountOutOfRange,
    BadParameter,
    CommentTooLong,
    IllegalState,
    PaycodeDisabled,
    PaycodesError,
    UnknownInvoice,
    UnknownPaycode,
    WaitTimeout,
    describe,
)
from ..services.wallets import reason
from .context import Context, TurnedAway
from .page import ask_page, invoice_page, refused_page, state_of

log = logging.getLogger(__name__)

#: Bytes of a form: a comment of 2000 characters is up to 24 kB when it is encoded for one.
FORM_BYTES = 32_768
#: Seconds between two signs of life on a stream, which also show that the payer has gone.
HEARTBEAT_S = 15.0

Handler = Callable[[Request], Awaitable[Response]]


class PageRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._wallets = context.wallets

    def routes(self) -> list[Route]:
        return [
            Route("/pay/{name}", _answered(self._code), methods=["GET", "POST"]),
            Route("/pay/{name}/{payment_hash}", _answered(self._invoice), methods=["GET"]),
            Route("/pay/{name}/{payment_hash}/events", _answered(self._events), methods=["GET"]),
        ]

    async def _paycode(self, request: Request) -> Paycode:
        await self._context.may_ask(request)
        return self._wallets.by_name(request.path_params["name"])

    # --- the code and its form ---

    async def _code(self, request: Request) -> Response:
        paycode = await self._paycode(request)
        if paycode.status is PaycodeStatus.DISABLED:
            raise PaycodeDisabled("")
        if request.method == "POST":
            return await self._order(request, paycode)
        return self._ask(paycode)

    def _ask(self, paycode: Paycode, **typed: str) -> Response:
        address = self._wallets.lightning_address(paycode)
        return ask_page(paycode, address=address, lnurl=self._wallets.lnurl(paycode), **typed)

    async def _order(self, request: Request, paycode: Paycode) -> Response:
        """Make the invoice and send the browser to its page, so that a reload does not make another."""
        form = await _form(request)
        amount, comment = form.get("amount", ""), form.get("comment", "").replace("\r\n", "\n").strip()
        fixed = paycode.terms.min_msat == paycode.terms.max_msat
        amount_msat = paycode.terms.min_msat if fixed else parse_sat(amount)
        try:
            if amount_msat is None:
                raise BadParameter("amount: type a number of satoshi")
            invoice = await self._context.make(
                request,
                paycode.paycode_id,
                lambda: self._wallets.invoice(paycode, amount_msat=amount_msat, comment=comment or None),
            )
        except (BadParameter, AmountOutOfRange, CommentTooLong) as e:
            return self._ask(paycode, amount=amount, comment=comment, problem=_problem(e, paycode))
        return RedirectResponse(f"{request.path_params['name']}/{invoice.payment_hash}", status_code=303)

    # --- an invoice ---

    def _row(self, request: Request, paycode: Paycode) -> Invoice:
        return self._wallets.invoice_of(paycode, request.path_params["payment_hash"])

    async def _invoice(self, request: Request) -> Response:
        paycode = await self._paycode(request)
        invoice = self._row(request, paycode)
        if invoice.bolt11 is None:
            raise UnknownInvoice("never issued")
        address = self._wallets.lightning_address(paycode)
        return invoice_page(paycode, invoice, address=address, now=self._context.clock())

    # --- live ---

    async def _events(self, request: Request) -> Response:
        paycode = await self._paycode(request)
        invoice = self._row(request, paycode)
        address = self._context.limits.address(request)
        if not self._context.limits.has_stream_room(address):
            raise TurnedAway
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
        return StreamingResponse(self._stream(invoice, address), media_type="text/event-stream", headers=headers)

    async def _stream(self, invoice: Invoice, address: str) -> AsyncIterator[str]:
        """Server-sent events: the state now, and the one that ends the waiting."""
        with self._context.limits.stream(address):
            state = state_of(invoice, self._context.clock())
            yield f"event: status\ndata: {state}\n\n"
            while state == "waiting":
                left_s = invoice.expires_at - self._context.clock()
                try:
                    await self._context.wait_paid(invoice.slot, max(0.1, min(HEARTBEAT_S, left_s)))
                    state = "paid"
                except WaitTimeout:
                    yield ": waiting\n\n"
                    state = "waiting" if left_s > HEARTBEAT_S else "expired"
                except IllegalState:
                    state = "expired"
                except PaycodesError:
                    return  # the plugin is stopping: the browser comes back by itself
            yield f"event: status\ndata: {state}\n\n"


async def _form(request: Request) -> dict[str, str]:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > FORM_BYTES:
                raise BadParameter("comment: it is too long")
    except ClientDisconnect:
        raise BadParameter("amount: the form did not come to its end") from None
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10, errors="strict")
    except ValueError:
        raise BadParameter("amount: the form could not be read") from None
    return {name: values[0] for name, values in fields.items()}


def _problem(error: PaycodesError, paycode: Paycode) -> str:
    """For a person: in satoshi, and without the name of a parameter."""
    if isinstance(error, AmountOutOfRange):
        return f"That amount cannot be paid here. {limits_text(paycode.terms)}"
    text = reason(error, paycode).partition(": ")[2]
    return text[:1].upper() + text[1:] + "."


def _answered(handler: Handler) -> Handler:
    """The one place where errors become pages."""

    async def endpoint(request: Request) -> Response:
        again = str(request.url.path).rpartition("/")[2]
        try:
            return await handler(request)
        except TurnedAway:
            why = "too many people ask at the moment: wait a minute and try again"
            return refused_page(status_code=429, verdict="One moment", why=why, again=again)
        except (UnknownPaycode, UnknownInvoice) as e:
            return refused_page(status_code=404, verdict="Not found", why=reason(e, None))
        except PaycodeDisabled as e:
            return refused_page(status_code=403, verdict="Closed", why=reason(e, None))
        except BadParameter as e:
            return refused_page(status_code=400, verdict="Not understood", why=reason(e, None), again=again)
        except PaycodesError as e:
            return refused_page(status_code=503, verdict="Not available", why=reason(e, None), again=again)
        except Exception as e:
            log.error("a page failed: %s", describe(e))
            why = "an unexpected error: try again later"
            return refused_page(status_code=500, verdict="Not available", why=why, again=again)

    return endpoint
