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


def measure(issue: str, name: str) -> Callable[[Stage], Iterator[Round]]:
    def rounds(stage: Stage) -> Iterator[Round]:
        paycode = code_of(stage, issue)

        def ours() -> tuple[float, float]:
            stage.with_plugin()
            return _pay(stage, stage.paycode_strings(paycode, ONE_BY_ONE + AT_ONCE))

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


def _measurement(issue: str, name: str, slower: Goal | None, rate: Goal | None) -> Measurement:
    reference = "plain invoice, without the plugin"
    rows = (
        Row(name=f"{name}-1", what=f"payment, {issue}, pay to settled", reference=reference, unit="ms", goal=slower),
        Row(
            name=f"{name}-{CALLERS}",
            what=f"payments, {issue}, {CALLERS} at once",
            reference=reference,
            unit="/s",
            goal=rate,
        ),
    )
    return Measurement(rows=rows, rounds=measure(issue, name), grows=True)


MEASUREMENTS = (
    _measurement("eager", "pay", Goal("<=", 1.03), Goal(">=", 0.97)),
    _measurement("lazy", "lazy-pay", None, None),
)
