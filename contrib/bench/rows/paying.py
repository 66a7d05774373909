"""Payments of a paycode's invoices, beside those of plain invoices on the same node while the plugin is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..load import load
from ..stage import Stage
from ..suite import Goal, Measurement, Round, Row, take_turns
from .issuing import code_of

ONE_BY_ONE = 30
AT_ONCE = 150
CALLERS = 32


def measure(issue: str | None, name: str) -> Callable[[Stage], Iterator[Round]]:
    """Payments of a code's invoices, or (None) of invoices that the plugin has nothing to do with."""

    def rounds(stage: Stage) -> Iterator[Round]:
        paycode = None if issue is None else code_of(stage, issue)

        def ours() -> tuple[float, float]:
            stage.with_plugin()
            count = ONE_BY_ONE + AT_ONCE
            return _pay(stage, stage.plain_strings(count) if paycode is None else stage.paycode_strings(paycode, count))

        def reference() -> tuple[float, float]:
            stage.without_plugin()
            return _pay(stage, stage.plain_strings(ONE_BY_ONE + AT_ONCE))

        reference()  # the first payments over a channel are slower
        for number in range(stage.rounds):
            seen = take_turns(number, ours=ours, reference=reference)
            (latency, rate), (plain_latency, plain_rate) = seen["ours"], seen["reference"]
            yield {f"{name}-1": (latency, plain_latency), f"{name}-{CALLERS}": (rate, plain_rate)}
        stage.with_plugin()

    return rounds


def _pay(stage: Stage, strings: list[str]) -> tuple[float, float]:
    """The median latency in ms, one by one; payments per second, many at once."""
    latency = load(stage.payments(strings[:ONE_BY_ONE], 1)).quantile_ms(0.5)
    return latency, load(stage.payments(strings[ONE_BY_ONE:], CALLERS)).per_second


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
