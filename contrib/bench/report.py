"""Figures as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .suite import Figure

_HEAD = ("row", "ours", "reference", "ratio", "goal", "", "what", "beside")


def number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def table(figures: Sequence[Figure], machine: Mapping[str, str]) -> str:
    lines = [_HEAD, *map(_cells, figures)]
    return _page(machine, _laid_out(lines, right={1, 2, 3}), figures)


def _page(machine: Mapping[str, str], lines: Sequence[str], figures: Sequence[Figure]) -> str:
    missing = [f"{figure.row.name}: not available: {figure.missing}" for figure in figures if figure.missing]
    about = [f"{name:<8} {value}" for name, value in machine.items()]
    return "\n".join([*about, "", *lines, *([""] if missing else []), *missing, ""])


def _laid_out(lines: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _cells(figure: Figure) -> tuple[str, ...]:
    row = figure.row
    return (
        row.name,
        number(figure.ours, row.unit),
        number(figure.reference, row.unit),
        "-" if figure.ratio is None else f"{figure.ratio:.2f}",
        "" if row.goal is None else str(row.goal),
        figure.verdict,
        row.what,
        row.reference or "",
    )


def markdown(figures: Sequence[Figure]) -> str:
    """Ratios alone, for a README: absolute figures are those of one machine."""
    lines = ["| | beside | ratio | goal |", "|---|---|---|---|"]
    for figure in figures:
        row = figure.row
        if figure.ratio is not None:
            goal = "" if row.goal is None else str(row.goal)
            lines.append(f"| {row.what} | {row.reference} | {figure.ratio:.2f} | {goal} |")
    return "\n".join(lines) + "\n"


def document(figures: Sequence[Figure], machine: Mapping[str, str]) -> str:
    """All figures, with those of each round."""
    return json.dumps({"machine": dict(machine), "rows": [_entry(figure) for figure in figures]}, indent=1) + "\n"


def _entry(figure: Figure) -> dict[str, object]:
    row = figure.row
    return {
        "name": row.name,
        "what": row.what,
        "beside": row.reference,
        "unit": row.unit,
        "ours": figure.ours,
        "reference": figure.reference,
        "ratio": figure.ratio,
        "goal": None if row.goal is None else str(row.goal),
        "met": None if not figure.verdict else figure.verdict == "met",
        "missing": figure.missing,
        "rounds": figure.rounds,
    }


def growth_table(by_size: Mapping[int, Sequence[Figure]], machine: Mapping[str, str]) -> str:
    """Ours at each number of invoices, and divided by ours at the smallest; the reference likewise."""
    lines = [("row", *(f"{size:,}" for size in by_size), "grown", "reference grown")]
    first = next(iter(by_size.values()))
    for figures in zip(*by_size.values(), strict=True):
        row = figures[0].row
        if figures[0].missing is None:
            shown = [number(figure.ours, row.unit) for figure in figures]
            grown = _grown([figure.ours for figure in figures]), _grown([figure.reference for figure in figures])
            lines.append((row.name, *shown, *grown))
    return _page(machine, _laid_out(lines, right=set(range(1, len(by_size) + 1))), first)


def growth_document(by_size: Mapping[int, Sequence[Figure]], machine: Mapping[str, str]) -> str:
    rows = {size: [_entry(figure) for figure in figures] for size, figures in by_size.items()}
    return json.dumps({"machine": dict(machine), "rows at": rows}, indent=1) + "\n"


def _grown(values: Sequence[float | None]) -> str:
    if not values[0] or any(value is None for value in values):
        return "-"
    return " ".join(f"{value / values[0]:.2f}" for value in values if value is not None)
