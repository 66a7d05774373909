"""Payments of a paycode's invoices, beside those of plain invoices on the same node while the plugin is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..pace import AT_ONCE, CALLERS, ONE_BY_ONE, Turn, rounds, turn
from ..stage import PAID_MSAT, Stage
from ..suite import Goal, Measurement, Round, Row
from .issuing import code_of


def measure(issue: str | None, name: str) -> Callable[[Stage], Iterator[Round]]:
    """Payments of a code's invoices, or (None) of invoices that the plugin has nothing to do with."""

    def measured(stage: Stage) -> Iterator[Round]:
        paycode = None if issue is None else code_of(stage, issue)

        def ours() -> Turn:
            stage.with_plugin()
            count = ONE_BY_ONE + AT_ONCE
            return _pay(stage, stage.plain_strings(count) if paycode is None else stage.paycode_strings(paycode, count))

        def reference() -> Turn:
            stage.without_plugin()
            return _pay(stage, stage.plain_strings(ONE_BY_ONE + AT_ONCE))

        reference()  # the first payments over a channel are slower
        yield from rounds(stage.rounds, name, ours, reference)
        stage.with_plugin()

    return measured


def _pay(stage: Stage, strings: list[str]) -> Turn:
    """What was paid goes back afterwards: the channel lasts for any number of rounds."""
    paid = turn(stage.payments(strings[:ONE_BY_ONE], 1), stage.payments(strings[ONE_BY_ONE:], CALLERS))
    stage.network.pay_out(len(strings) * PAID_MSAT)
    return paid


def _measurement(issue: str | None, name: str, slower: Goal | None, rate: Goal | None) -> Measurement:
    reference = "plain invoice, without the plugin"
    kind = issue or "plain invoice"
    rows = (
        Row(name=f"{name}-1", what=f"payment, {kind}, pay to settled", reference=reference, unit="ms", goal=slower),
        Row(
            name=f"{name}-{CALLERS}",
            what=f"payments, {kind}, {CALLERS} at once",
            reference=reference,
            unit="/s",
            goal=rate,
        ),
    )
    return Measurement(rows=rows, rounds=measure(issue, name), grows=True)


MEASUREMENTS = (
    _measurement(None, "plain-pay", Goal("<=", 1.03), Goal(">=", 0.97)),
    _measurement("eager", "pay", Goal("<=", 1.03), None),
    _measurement("lazy", "lazy-pay", None, None),
)
