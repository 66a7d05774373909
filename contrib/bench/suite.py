"""What a benchmark consists of: rows, rounds in which ours and the reference take turns, and their medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from network import DEFAULT_PLUGIN

from .stage import Stage

T = TypeVar("T")


class NotAvailable(Exception):
    """This cannot be measured here, or not yet; the message says why."""


@dataclass(frozen=True)
class Goal:
    """A bound of ours divided by the reference, or of ours alone."""

    sign: Literal[">=", "<="]
    limit: float
    of: Literal["ratio", "ours"] = "ratio"

    def is_met(self, figure: Figure) -> bool:
        value = figure.ratio if self.of == "ratio" else figure.ours
        if value is None:
            return False
        return value >= self.limit if self.sign == ">=" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}" + (" (ours)" if self.of == "ours" else "")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    name: str
    what: str
    #: what stands beside it; None: the figure stands alone
    reference: str | None
    unit: str
    goal: Goal | None = None


#: Ours and the reference, by the name of the row: what one round saw.
Round = Mapping[str, tuple[float, float | None]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The network that a measurement runs on; those with the same setting share one."""

    plugin: Path = DEFAULT_PLUGIN
    options: tuple[tuple[str, str | int], ...] = ()
    #: in the node and in the books before anything is measured
    invoices: int = 0


#: The plugin as it is run, open to wallets.
SHOP = Setting(options=(("paycodes_listen", "127.0.0.1:0"), ("paycodes_rate_limit", 0)))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One way to measure, and the rows that it fills."""

    rows: tuple[Row, ...]
    #: yields `stage.rounds` times; raises NotAvailable
    rounds: Callable[[Stage], Iterator[Round]]
    setting: Setting = SHOP
    #: what it costs must not depend on how many invoices there are: `--growth` looks
    grows: bool = False


@dataclass(frozen=True)
class Figure:
    """The medians of all rounds; the ratio is the median of the rounds' ratios."""

    row: Row
    ours: float | None = None
    reference: float | None = None
    ratio: float | None = None
    #: why there is none
    missing: str | None = None
    rounds: list[tuple[float, float | None]] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if self.missing is not None or self.row.goal is None:
            return ""
        return "met" if self.row.goal.is_met(self) else "MISSED"


def run(measurement: Measurement, stages: Sequence[Stage]) -> list[list[Figure]]:
    """The figures of each stage; their rounds take turns, so that the stages can be compared."""
    seen: list[list[Round]] = [[] for _ in stages]
    try:
        measuring = [measurement.rounds(stage) for stage in stages]
        for _ in range(stages[0].rounds):
            for rounds, each in zip(seen, measuring, strict=True):
                rounds.append(next(each))
        for each in measuring:
            next(each, None)  # what comes after the last round clears up
    except NotAvailable as error:
        return [[Figure(row, missing=str(error)) for row in measurement.rows] for _ in stages]
    return [[_figure(row, [each[row.name] for each in rounds]) for row in measurement.rows] for rounds in seen]


def _figure(row: Row, pairs: list[tuple[float, float | None]]) -> Figure:
    beside = [(ours, reference) for ours, reference in pairs if reference is not None]
    return Figure(
        row,
        ours=statistics.median(ours for ours, _ in pairs),
        reference=statistics.median(reference for _, reference in beside) if beside else None,
        ratio=statistics.median(ours / reference for ours, reference in beside if reference) if beside else None,
        rounds=pairs,
    )


def take_turns(number: int, **sides: Callable[[], T]) -> dict[str, T]:
    """All sides once; who begins changes with the number of the round, so that nobody always goes first."""
    names = list(sides)
    first = number % len(names)
    return {name: sides[name]() for name in names[first:] + names[:first]}
