"""LNURL callbacks over loopback without a rate limit, beside `invoice` with the same description hash."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit
from urllib.request import urlopen

from ..load import Job, get_request, load
from ..stage import PAID_MSAT, Stage
from ..suite import Goal, Measurement, Round, Row, take_turns
from .issuing import code_of

COUNT = 1000
CLIENTS = 32


def measure(issue: str, name: str) -> Callable[[Stage], Iterator[Round]]:
    def rounds(stage: Stage) -> Iterator[Round]:
        callback, metadata = resolve(stage, code_of(stage, issue))
        for number in range(stage.rounds):
            rates = take_turns(
                number,
                ours=lambda: load(callbacks(callback, COUNT, CLIENTS)).per_second,
                reference=lambda: (
                    load(stage.invoices(COUNT, CLIENTS, description=metadata, deschashonly=True)).per_second
                ),
            )
            yield {name: (rates["ours"], rates["reference"])}

    return rounds


def resolve(stage: Stage, paycode: str) -> tuple[str, str]:
    """The callback of a code with an amount, and the text that its invoices commit to."""
    paycode_id = stage.merchant.call("listpaycodes", paycode)["paycodes"][0]["paycode_id"]
    with urlopen(f"{stage.url()}/lnurlp/{paycode_id}") as answer:
        offered = json.load(answer)
    return f"{offered['callback']}?amount={PAID_MSAT}", offered["metadata"]


def callbacks(url: str, count: int, clients: int, wanted: str = '"pr"') -> Job:
    return Job(urlsplit(url).netloc, [[get_request(url)]] * count, clients, wanted)


def _measurement(issue: str, name: str, at_least: float) -> Measurement:
    row = Row(
        name=name,
        what=f"LNURL callback, {issue}, {CLIENTS} clients",
        reference=f"invoice, {CLIENTS} callers",
        unit="/s",
        goal=Goal(">=", at_least),
    )
    return Measurement(rows=(row,), rounds=measure(issue, name), grows=True)


MEASUREMENTS = (_measurement("eager", "callback-32", 0.95), _measurement("lazy", "lazy-callback-32", 2))
