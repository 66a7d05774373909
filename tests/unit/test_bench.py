"""What the benchmark suite makes of the figures that it measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from bench.load import Seen
from bench.pace import Turn, rounds
from bench.plot import plot
from bench.report import document, table
from bench.stage import Stage
from bench.suite import Figure, Goal, Measurement, NotAvailable, Round, Row, run

MACHINE = {"node": "made up"}
ROW = Row(name="fast", what="ours < theirs", reference="theirs", unit="/s", goal=Goal(">=", 0.9))


def figure(*rounds: tuple[float, float]) -> Figure:
    measurement = Measurement(rows=(ROW,), rounds=lambda _: iter([{"fast": each} for each in rounds]))
    ((found,),) = run(measurement, [stage(len(rounds))])
    return found


def stage(rounds: int = 1) -> Stage:
    """Of a network that nobody looks at."""
    return Stage(None, rounds)  # type: ignore[arg-type]


def test_ratio_is_the_median_of_the_rounds() -> None:
    """A slow moment of the machine, which hits ours and the reference of one round, does not count."""
    found = figure((100, 100), (10, 11), (95, 100))

    assert (found.ours, found.reference, found.ratio, found.verdict) == (95, 100, 0.95, "met")


def test_missed_goal_is_named_in_table_json_and_plot() -> None:
    """A figure below its goal shows wherever figures are shown."""
    missed = [figure((50, 100))]

    assert "0.50  >= 0.9  MISSED" in table(missed, MACHINE)
    assert json.loads(document(missed, MACHINE))["rows"][0]["met"] is False
    assert "#c62828" in [rectangle.get("fill") for rectangle in ElementTree.fromstring(plot(missed, MACHINE)).iter()]


def test_what_cannot_be_measured_says_why() -> None:
    """A row that is not available has its reason in the table, and no bar."""

    def refuse(_: Stage) -> Iterator[Round]:
        raise NotAvailable("not in this version")

    (found,) = run(Measurement(rows=(ROW,), rounds=refuse), [stage()])

    assert "fast: not available: not in this version" in table(found, MACHINE)
    assert "0.9" not in plot(found, MACHINE)


def test_drift_of_the_machine_hits_both_sides_of_a_payment_alike() -> None:
    """Each round has both sides twice, in an order of which neither is later than the other, as one load each."""
    turns: list[str] = []

    def side(name: str) -> Turn:
        turns.append(name)
        slower = len(turns)  # with every turn
        return Seen(0.03 * slower, [0.01 * slower] * 3), Seen(1.0 * slower, [0.1] * 30)

    seen = list(rounds(2, "pay", lambda: side("ours"), lambda: side("plain")))

    assert turns == ["ours", "plain", "plain", "ours", "plain", "ours", "ours", "plain"]
    assert seen[0]["pay-32"] == (60 / 5, 60 / 5)
    assert seen[0]["pay-1"] == pytest.approx((40, 30))
    assert seen[1]["pay-32"] == (60 / 13, 60 / 13)
