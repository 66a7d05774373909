"""`paycode-invoice` beside the node's own `invoice`, by the same clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pyln.client import RpcError

from ..load import Job, load
from ..stage import DESCRIPTION, EXPIRY_S, PAID_MSAT, Stage, fresh, reason
from ..suite import Goal, Measurement, NotAvailable, Round, Row, take_turns

NOOP_PLUGIN = Path(__file__).resolve().parents[1] / "noop_plugin.py"

COUNT = 1000


def measure(issue: str, callers: int) -> Callable[[Stage], Iterator[Round]]:
    def rounds(stage: Stage) -> Iterator[Round]:
        paycode = code_of(stage, issue)
        for number in range(stage.rounds):
            rates = take_turns(
                number,
                ours=lambda: load(stage.paycode_invoices(paycode, COUNT, callers)).per_second,
                reference=lambda: load(stage.invoices(COUNT, callers)).per_second,
            )
            yield {f"{_word(issue)}-{callers}": (rates["ours"], rates["reference"])}

    return rounds


def code_of(stage: Stage, issue: str) -> str:
    """A code that issues this way; raises NotAvailable."""
    try:
        return stage.paycode(issue=issue)
    except RpcError as error:
        raise NotAvailable(reason(error)) from error


def measure_plain(stage: Stage) -> Iterator[Round]:
    stage.merchant.call("plugin", "start", str(NOOP_PLUGIN))
    for number in range(stage.rounds):
        rates = take_turns(
            number,
            ours=lambda: _plain(stage),
            reference=lambda: load(stage.invoices(COUNT, 1)).per_second,
        )
        yield {"plain-1": (rates["ours"], rates["reference"])}
    stage.merchant.call("plugin", "stop", str(NOOP_PLUGIN))


def _plain(stage: Stage) -> float:
    given = {"amount_msat": PAID_MSAT, "description": DESCRIPTION, "expiry": EXPIRY_S}
    calls = (("bench-invoice", given | {"label": fresh("way")}) for _ in range(COUNT))
    return load(stage.job(calls, 1, '"bolt11"')).per_second


def measure_database(stage: Stage) -> Iterator[Round]:
    paycode = code_of(stage, "lazy")
    for number in range(stage.rounds):
        grown = take_turns(
            number,
            ours=lambda: _grown(stage, stage.paycode_invoices(paycode, COUNT, 32)),
            reference=lambda: _grown(stage, stage.invoices(COUNT, 32)),
        )
        yield {"lazy-database": (grown["ours"], grown["reference"])}


def _grown(stage: Stage, job: Job) -> float:
    """Bytes of the node's database for each invoice."""
    database = stage.merchant.network_dir / "lightningd.sqlite3"
    if not database.exists():
        raise NotAvailable("this node has no database")
    before = database.stat().st_size
    issued = len(load(job).times)
    return (database.stat().st_size - before) / issued


def _word(issue: str) -> str:
    return "issue" if issue == "eager" else issue


def _row(issue: str, callers: int, at_least: float) -> Row:
    who = "1 caller" if callers == 1 else f"{callers} callers"
    return Row(
        name=f"{_word(issue)}-{callers}",
        what=f"paycode-invoice, {issue}, {who}",
        reference=f"invoice, {who}",
        unit="/s",
        goal=Goal(">=", at_least),
    )


_PLAIN = Row(
    name="plain-1",
    what="the plain way (pyln method that calls invoice), 1 caller",
    reference="invoice, 1 caller",
    unit="/s",
)
_DATABASE = Row(
    name="lazy-database",
    what="the node's database for each unpaid invoice, lazy",
    reference="invoice",
    unit="bytes",
    goal=Goal("<=", 0.02),
)

MEASUREMENTS = (
    Measurement(rows=(_row("eager", 1, 0.9),), rounds=measure("eager", 1), grows=True),
    Measurement(rows=(_row("eager", 32, 1.5),), rounds=measure("eager", 32), grows=True),
    Measurement(rows=(_PLAIN,), rounds=measure_plain),
    Measurement(rows=(_row("lazy", 1, 1.2),), rounds=measure("lazy", 1), grows=True),
    Measurement(rows=(_row("lazy", 32, 2),), rounds=measure("lazy", 32), grows=True),
    Measurement(rows=(_DATABASE,), rounds=measure_database),
)
