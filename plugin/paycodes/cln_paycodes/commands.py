"""The RPC methods as a table: name, parameters, and the function that answers.

A function takes the services and its bound arguments and returns the answer, or a future of it when it waits for
something.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from . import parameters as p
from .chaining import then
from .core import qr
from .core.answers import endpoint_answer, event_answer, hold_answer, invoice_answer, paycode_answer
from .core.events import EventType
from .core.keys import FIRST_INDEX
from .core.labels import Slot
from .core.records import DeliveryStatus, Endpoint, Paycode
from .core.states import InvoiceStatus
from .core.terms import Issue, PaycodeStatus, Terms
from .errors import BadParameter
from .parameters import Parameter
from .services.endpoints import OVERLAP_MAX_S, OVERLAP_S, Change, checked_url
from .services.issuing import PAYER_DATA_BYTES, Request
from .store import invoices, outbox, paycodes

if TYPE_CHECKING:
    from .app import Services
    from .services.run import Progress

Answer = dict[str, Any]

Run = TypeVar("Run", bound=Callable[..., "Answer | Future[Answer]"])

#: Rows in a list without `limit`, and the most that one call gives: an answer stays well under a megabyte or two.
PAGE_DEFAULT = 100
PAGE_MOST = 1000


class Pool(str, Enum):
    """Where a method runs, so that a slow kind never holds up a quick one."""

    NONE = "none"  # answers later and waits for nothing: it runs where requests are read
    QUICK = "quick"  # reads the sidecar
    NODE = "node"  # calls the node
    SLOW = "slow"  # may take many seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    name: str
    parameters: tuple[Parameter, ...]
    run: Callable[..., Answer | Future[Answer]]
    pool: Pool
    #: it takes `progress`, to be called with how much is done of how much
    watched: bool = False


COMMANDS: dict[str, Command] = {}


def _command(name: str, pool: Pool, *parameters: Parameter, watched: bool = False) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        COMMANDS[name] = Command(name=name, parameters=parameters, run=run, pool=pool, watched=watched)
        return run

    return register


_PAYCODE = Parameter(name="paycode", kind=p.text, required=True)
_OPTIONAL_PAYCODE = Parameter(name="paycode", kind=p.text)
_ENDPOINT = Parameter(name="endpoint", kind=p.text, required=True)
_START = Parameter(name="start", kind=p.whole)
_LIMIT = Parameter(name="limit", kind=p.whole)


def _webhook_url(name: str, value: Any) -> str:
    """The URL as given, once it is known to be one that `webhook-add` takes."""
    url = p.text(name, value)
    checked_url(url, name=name)
    return url


_TERMS = (
    Parameter(name="description", kind=p.text),
    Parameter(name="user", kind=p.text),
    Parameter(name="min_msat", kind=p.msat),
    Parameter(name="max_msat", kind=p.msat),
    Parameter(name="expiry", kind=p.whole),
    Parameter(name="comment_chars", kind=p.whole),
    Parameter(name="issue", kind=p.one_of("eager", "lazy")),
    Parameter(name="hold", kind=p.flag),
    Parameter(name="max_pending", kind=p.whole),
    Parameter(name="webhook", kind=_webhook_url),
)

# --- paycodes ---


def _paycode_answer(services: Services, paycode: Paycode) -> Answer:
    return {**paycode_answer(paycode), **services.public_fields(paycode)}


def _apply_terms(terms: Terms, given: dict[str, Any]) -> Terms:
    """The terms with what was given changed: an empty `user`, a `max_msat` or `max_pending` of 0 take it away."""
    changes = dict(given)
    for name in ("user", "max_msat", "max_pending"):
        if name in changes:
            changes[name] = changes[name] or None
    if "issue" in changes:
        changes["issue"] = Issue(changes["issue"])
    return replace(terms, **changes)


@_command(
    "paycode-create",
    Pool.NODE,
    Parameter(name="label", kind=p.text, required=True),
    *_TERMS,
    Parameter(name="root_key", kind=p.public_key),
)
def paycode_create(
    services: Services, label: str, root_key: bytes | None = None, webhook: str | None = None, **given: Any
) -> Answer:
    terms = _apply_terms(Terms(label=label, description=given.pop("description", label)), given)
    paycode, created = services.registry.create(terms, root_key=root_key)
    answer = {**_paycode_answer(services, paycode), "created": created}
    if webhook is not None and (endpoint := _webhook_of(services, paycode, webhook)) is not None:
        answer["webhook"] = endpoint
    return answer


def _webhook_of(services: Services, paycode: Paycode, url: str) -> Answer | None:
    """An endpoint for the events of one code; None when it is there already."""
    public_url = checked_url(url)
    for endpoint in services.endpoints.every():
        if (endpoint.url, endpoint.paycode_id) == (public_url, paycode.paycode_id):
            return None
    return webhook_add(services, url, paycode=paycode.paycode_id)


@_command("paycode-update", Pool.NODE, _PAYCODE, *_TERMS, Parameter(name="label", kind=p.text))
def paycode_update(services: Services, paycode: str, webhook: str | None = None, **given: Any) -> Answer:
    updated = services.registry.update(paycode, lambda terms: _apply_terms(terms, given))
    services.offers.keep(updated)
    answer = _paycode_answer(services, updated)
    if webhook is not None and (endpoint := _webhook_of(services, updated, webhook)) is not None:
        answer["webhook"] = endpoint
    return answer


@_command("paycode-disable", Pool.NODE, _PAYCODE)
def paycode_disable(services: Services, paycode: str) -> Answer:
    return _set_status(services, paycode, PaycodeStatus.DISABLED)


@_command("paycode-enable", Pool.NODE, _PAYCODE)
def paycode_enable(services: Services, paycode: str) -> Answer:
    return _set_status(services, paycode, PaycodeStatus.ACTIVE)


def _set_status(services: Services, paycode: str, status: PaycodeStatus) -> Answer:
    changed = services.registry.set_status(paycode, status)
    services.offers.keep(changed)
    return _paycode_answer(services, changed)


@_command("listpaycodes", Pool.QUICK, _OPTIONAL_PAYCODE)
def listpaycodes(services: Services, paycode: str | None = None) -> Answer:
    found = services.store.read(paycodes.every) if paycode is None else [services.registry.find(paycode)]
    return {"paycodes": [_paycode_answer(services, record) for record in found]}


@_command(
    "paycode-qr",
    Pool.NODE,
    _PAYCODE,
    Parameter(name="kind", kind=p.one_of("lnurl", "bolt12")),
    Parameter(name="format", kind=p.one_of("text", "svg")),
)
def paycode_qr(
    services: Services,
    paycode: str,
    kind: str = "lnurl",
    format: str = "text",  # noqa: A002 (the contract's name)
) -> Answer:
    """The first `kind=bolt12` makes the code's offer."""
    found = services.registry.find(paycode)
    if kind == "bolt12":
        code = services.offers.make(found.paycode_id).bolt12.upper()
    elif services.links is None:
        raise BadParameter("kind: an LNURL needs the option paycodes-url; give bolt12, or set it")
    else:
        code = qr.payment_uri(services.links.lnurl(found))
    content = qr.as_svg(code, title=found.terms.label) if format == "svg" else qr.as_text(code)
    return {"content": content, "format": format, "code": code}


# --- invoices ---


@_command(
    "paycode-invoice",
    Pool.NONE,
    _PAYCODE,
    Parameter(name="amount_msat", kind=p.msat, required=True),
    Parameter(name="comment", kind=p.text),
    Parameter(name="payer_data", kind=p.json_object),
    Parameter(name="idempotency_key", kind=p.text),
)
def paycode_invoice(services: Services, paycode: str, amount_msat: int, **given: Any) -> Future[Answer]:
    if "payer_data" in given and len(json.dumps(given["payer_data"], ensure_ascii=False).encode()) > PAYER_DATA_BYTES:
        raise BadParameter(f"payer_data: at most {PAYER_DATA_BYTES} bytes of JSON")
    return then(services.issuing.issue(paycode, Request(amount_msat=amount_msat, **given)), invoice_answer)


@_command(
    "listpaycodeinvoices",
    Pool.QUICK,
    _OPTIONAL_PAYCODE,
    Parameter(name="index", kind=p.whole),
    Parameter(name="payment_hash", kind=p.hash_hex),
    Parameter(name="status", kind=p.one_of(*map(str, InvoiceStatus))),
    _START,
    _LIMIT,
)
def listpaycodeinvoices(
    services: Services,
    paycode: str | None = None,
    index: int | None = None,
    payment_hash: str | None = None,
    status: str | None = None,
    start: int = 0,
    limit: int = PAGE_DEFAULT,
) -> Answer:
    paycode_id = None if paycode is None else services.registry.find(paycode).paycode_id
    rows = services.store.read(
        lambda sql: invoices.page(
            sql,
            paycode_id=paycode_id,
            index=index,
            payment_hash=payment_hash,
            status=None if status is None else InvoiceStatus(status),
            start=start,
            limit=_page_size(limit) + 1,
        )
    )
    return _paged("invoices", [(row.sequence, invoice_answer(row)) for row in rows], limit)


def _page_size(limit: int) -> int:
    if not 1 <= limit <= PAGE_MOST:
        raise BadParameter(f"limit: give 1 to {PAGE_MOST}; next_start leads to the rest")
    return limit


def _paged(name: str, rows: list[tuple[int, Answer]], limit: int) -> Answer:
    """A page out of one row more than the page holds; `next_start` is null at the end."""
    next_start = rows[limit][0] if len(rows) > limit else None
    return {name: [row for _, row in rows[:limit]], "next_start": next_start}


@_command(
    "paycode-wait",
    Pool.QUICK,
    _PAYCODE,
    Parameter(name="index", kind=p.whole, required=True),
    Parameter(name="until", kind=p.one_of("issued", "paid")),
    Parameter(name="timeout", kind=p.seconds),
)
def paycode_wait(
    services: Services, paycode: str, index: int, until: str = "paid", timeout: float | None = None
) -> Future[Answer]:
    if index < FIRST_INDEX:
        raise BadParameter(f"index: the first one is {FIRST_INDEX}")
    slot = Slot(services.registry.find(paycode).paycode_id, index)
    return then(services.waiters.wait(slot, InvoiceStatus(until), timeout), invoice_answer)


@_command("paycode-verify", Pool.QUICK, Parameter(name="payment_hash", kind=p.hash_hex, required=True))
def paycode_verify(services: Services, payment_hash: str) -> Answer:
    invoice = services.issuing.by_hash(payment_hash)
    preimage = services.issuing.preimage(invoice)
    return {"settled": preimage is not None, "preimage": preimage, "pr": invoice.bolt11}


# --- held payments ---


@_command("listholds", Pool.QUICK, Parameter(name="payment_hash", kind=p.hash_hex))
def listholds(services: Services, payment_hash: str | None = None) -> Answer:
    """Without a `payment_hash` those that are not at their end."""
    found = services.holds.listed(payment_hash)
    return {"holds": [hold_answer(hold, now=services.clock()) for hold in found]}


_PAYMENT_HASH = Parameter(name="payment_hash", kind=p.hash_hex, required=True)


@_command("hold-settle", Pool.SLOW, _PAYMENT_HASH)
def hold_settle(services: Services, payment_hash: str) -> Answer:
    return hold_answer(services.decisions.settle(payment_hash), now=services.clock())


@_command("hold-cancel", Pool.NODE, _PAYMENT_HASH)
def hold_cancel(services: Services, payment_hash: str) -> Answer:
    return hold_answer(services.decisions.cancel(payment_hash), now=services.clock())


# --- webhooks and the outbox ---


def _endpoint_answer(services: Services, endpoint: Endpoint, secret: str | None = None) -> Answer:
    pending, exhausted = services.store.read(lambda sql: outbox.unacknowledged_by(sql, endpoint))
    answer = endpoint_answer(endpoint, pending=pending, exhausted=exhausted)
    return answer if secret is None else {**answer, "secret": secret}


@_command(
    "webhook-add",
    Pool.NODE,
    Parameter(name="url", kind=p.text, required=True),
    Parameter(name="events", kind=p.names),
    _OPTIONAL_PAYCODE,
    Parameter(name="secret", kind=p.text),
    Parameter(name="from_sequence", kind=p.whole),
)
def webhook_add(
    services: Services,
    url: str,
    events: tuple[str, ...] | None = None,
    paycode: str | None = None,
    secret: str | None = None,
    from_sequence: int | None = None,
) -> Answer:
    paycode_id = None if paycode is None else services.registry.find(paycode).paycode_id
    endpoint, shown_once = services.endpoints.add(
        url, events=events, paycode_id=paycode_id, secret=secret, from_sequence=from_sequence
    )
    return _endpoint_answer(services, endpoint, shown_once)


@_command(
    "webhook-update",
    Pool.NODE,
    _ENDPOINT,
    Parameter(name="url", kind=p.text),
    Parameter(name="events", kind=p.names),
    _OPTIONAL_PAYCODE,
    Parameter(name="secret", kind=p.text),
    Parameter(name="rotate", kind=p.flag),
    Parameter(name="overlap", kind=p.whole),
    Parameter(name="pause", kind=p.flag),
)
def webhook_update(
    services: Services,
    endpoint: str,
    paycode: str | None = None,
    events: tuple[str, ...] | None = None,
    overlap: int = OVERLAP_S,
    **given: Any,
) -> Answer:
    """Empty `events` or `paycode`: all of them. `pause=false` also lets a disabled endpoint have what it missed."""
    if overlap > OVERLAP_MAX_S:
        raise BadParameter(f"overlap: give at most {OVERLAP_MAX_S} seconds, for which the older secret signs too")
    paycode_id = services.registry.find(paycode).paycode_id if paycode else paycode
    change = Change(events=events, paycode_id=paycode_id, overlap_s=overlap, **given)
    updated, shown_once = services.endpoints.update(endpoint, change)
    return _endpoint_answer(services, updated, shown_once)


@_command("webhook-remove", Pool.NODE, _ENDPOINT)
def webhook_remove(services: Services, endpoint: str) -> Answer:
    return {"endpoint": services.endpoints.remove(endpoint).endpoint_id, "removed": True}


@_command("webhook-test", Pool.SLOW, _ENDPOINT)
def webhook_test(services: Services, endpoint: str) -> Answer:
    answer = services.deliveries.test(services.endpoints.find(endpoint))
    return {"endpoint": endpoint, "acknowledged": answer.acknowledged, "status": answer.status}


@_command("listwebhooks", Pool.QUICK, Parameter(name="endpoint", kind=p.text))
def listwebhooks(services: Services, endpoint: str | None = None) -> Answer:
    found = services.endpoints.every() if endpoint is None else [services.endpoints.find(endpoint)]
    return {"webhooks": [_endpoint_answer(services, record) for record in found]}


#: Beside the states of a delivery: what has not reached someone, whether it is still tried or not.
_UNACKNOWLEDGED = "unacknowledged"
_STATUSES = {
    **{str(status): (status,) for status in DeliveryStatus},
    _UNACKNOWLEDGED: (DeliveryStatus.PENDING, DeliveryStatus.EXHAUSTED),
}


@_command(
    "listoutbox",
    Pool.QUICK,
    Parameter(name="status", kind=p.one_of(*_STATUSES)),
    Parameter(name="type", kind=p.one_of(*map(str, EventType))),
    _START,
    _LIMIT,
)
def listoutbox(
    services: Services,
    status: str | None = None,
    type: str | None = None,  # noqa: A002 (the contract's name)
    start: int = 0,
    limit: int = PAGE_DEFAULT,
) -> Answer:
    found = services.store.read(
        lambda sql: outbox.page(
            sql,
            statuses=() if status is None else _STATUSES[status],
            event_type=type,
            start=start,
            limit=_page_size(limit) + 1,
        )
    )
    receivers = {endpoint.endpoint_id: endpoint for endpoint in services.endpoints.every()}
    return _paged("events", [(event.sequence, event_answer(event, sent, receivers)) for event, sent in found], limit)


@_command("outbox-retry", Pool.NODE, Parameter(name="event", kind=p.text), Parameter(name="endpoint", kind=p.text))
def outbox_retry(services: Services, event: str | None = None, endpoint: str | None = None) -> Answer:
    return {"retried": services.retry(event_id=event, endpoint_id=endpoint)}


# --- the whole ---


@_command(
    "reconcile",
    Pool.SLOW,
    Parameter(name="full", kind=p.flag),
    Parameter(name="dry_run", kind=p.flag),
    watched=True,
)
def reconcile(services: Services, progress: Progress, full: bool = False, dry_run: bool = False) -> Answer:
    return services.reconciler.run(full=full, dry_run=dry_run, progress=progress).answer()


@_command("getpaycodesinfo", Pool.QUICK)
def getpaycodesinfo(services: Services) -> Answer:
    return services.info()
