"""Payments of a paycode's invoices, beside those of plain invoices on the same node while the plugin is away."""

from __future__ import annotations

from collections.abc import Iterator

from ..load import load
from ..stage import Stage
from ..suite import Goal, Measurement, Round, Row, take_turns

ONE_BY_ONE = 30
AT_ONCE = 150
CALLERS = 32


def measure(stage: Stage) -> Iterator[Round]:
    paycode = stage.paycode()

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
        yield {"pay-1": (latency, plain_latency), "pay-32": (rate, plain_rate)}
    stage.with_plugin()


def _pay(stage: Stage, strings: list[str]) -> tuple[float, float]:
    """The median latency in ms, one by one; payments per second, many at once."""
    latency = load(stage.payments(strings[:ONE_BY_ONE], 1)).quantile_ms(0.5)
    return latency, load(stage.payments(strings[ONE_BY_ONE:], CALLERS)).per_second


_LATENCY = Row(
    name="pay-1",
    what="payment of a paycode's invoice, pay to settled",
    reference="of a plain invoice, without the plugin",
    unit="ms",
    goal=Goal("<=", 1.03),
)
_RATE = Row(
    name="pay-32",
    what=f"such payments, {CALLERS} at once",
    reference="of plain invoices, without the plugin",
    unit="/s",
    goal=Goal(">=", 0.97),
)

MEASUREMENTS = (Measurement(rows=(_LATENCY, _RATE), rounds=measure, grows=True),)
