"""The page for people: rendered here, with style and script in it, so that it needs nothing from elsewhere.

Both are allowed by their hash alone, so no markup that slipped in could run or restyle anything.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from ..core.amounts import format_sat, has_whole_sat, limits_text
from ..core.lnurl import summary
from ..core.qr import as_svg, payment_uri
from ..core.records import Invoice, Paycode
from ..core.states import FINAL, InvoiceStatus

_LOADER = PackageLoader("cln_paycodes.http")
_ENVIRONMENT = Environment(
    loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def _source(name: str) -> str:
    return _LOADER.get_source(_ENVIRONMENT, name)[0].strip()


_CSS = _source("page.css")
_JS = _source("page.js")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(_CSS)}",
            f"script-src {_hash(_JS)}",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _render(template: str, *, status_code: int = 200, **values: Any) -> Response:
    common = {"heading": None, "address": None, "about": None, "state": None, "wide": False}
    own = {"css": Markup(_CSS), "js": Markup(_JS)}  # noqa: S704 (our own files)
    body = _ENVIRONMENT.get_template(template).render({**common, **own, **values})
    return HTMLResponse(body, status_code=status_code, headers=_HEADERS)


def _who(paycode: Paycode, address: str | None) -> dict[str, Any]:
    """The head of the page: whom a payer pays."""
    return {"heading": summary(paycode.terms.description) or address or "Payment", "address": address}


def _about(paycode: Paycode) -> str | None:
    """What the description says beyond the heading."""
    description = paycode.terms.description.strip()
    return description.removeprefix(summary(description)).strip() or None


def ask_page(
    paycode: Paycode,
    *,
    address: str | None,
    lnurl: str,
    amount: str = "",
    comment: str = "",
    problem: str | None = None,
) -> Response:
    """The code itself, and a form for an invoice; with a problem, what was typed and why it is refused."""
    terms = paycode.terms
    who = _who(paycode, address)
    return _render(
        "ask.html",
        status_code=200 if problem is None else 422,
        title=f"Pay {who['heading']}",
        about=_about(paycode),
        wide=True,
        svg=_svg(payment_uri(lnurl)),
        uri=f"lightning:{lnurl}",
        lnurl=lnurl,
        fixed=format_sat(terms.min_msat) if terms.min_msat == terms.max_msat else None,
        whole=has_whole_sat(terms),
        limits=limits_text(terms),
        comment_chars=terms.comment_chars,
        amount=amount,
        comment=comment,
        problem=problem,
        **who,
    )


def state_of(invoice: Invoice, now: int) -> str:
    """`waiting`, `paid` or `expired`, for a payer."""
    if invoice.status is InvoiceStatus.PAID:
        return "paid"
    over = invoice.status in FINAL or (invoice.status is InvoiceStatus.ISSUED and now >= invoice.expires_at)
    return "expired" if over else "waiting"


def invoice_page(paycode: Paycode, invoice: Invoice, *, address: str | None, now: int) -> Response:
    assert invoice.bolt11 is not None
    state = state_of(invoice, now)
    seconds_left = max(0, invoice.expires_at - now)
    amount = format_sat(invoice.received_msat or invoice.amount_msat)
    titles = {"waiting": f"{amount} sat", "paid": f"Paid: {amount} sat", "expired": "Expired"}
    return _render(
        "invoice.html",
        title=titles[state],
        state=state,
        amount=amount,
        bolt11=invoice.bolt11,
        svg=_svg(payment_uri(invoice.bolt11)),
        uri=f"lightning:{invoice.bolt11}",
        events=f"{invoice.payment_hash}/events",
        seconds_left=seconds_left,
        left=_duration(seconds_left),
        paid_at=None if invoice.paid_at is None else _time(invoice.paid_at),
        again=f"../{paycode.terms.user or paycode.paycode_id}",
        **_who(paycode, address),
    )


def refused_page(*, status_code: int, verdict: str, why: str, again: str | None = None) -> Response:
    return _render(
        "refused.html", status_code=status_code, title=verdict, verdict=verdict, why=_sentence(why), again=again
    )


def _svg(content: str) -> Markup:
    return Markup(as_svg(content))  # noqa: S704 (made of modules only)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%d %b %Y, %H:%M UTC")


def _duration(seconds: int) -> str:
    minutes = seconds // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes}:{seconds % 60:02}"
