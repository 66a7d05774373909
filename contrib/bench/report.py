"""Figures as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .suite import Figure

_HEAD = ("row", "ours", "reference", "ratio", "goal", "", "what", "beside")
_RIGHT = {1, 2, 3}


def number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def table(figures: Sequence[Figure], machine: Mapping[str, str]) -> str:
    lines = [_HEAD, *map(_cells, figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    laid_out = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    missing = [f"{figure.row.name}: not available: {figure.missing}" for figure in figures if figure.missing]
    about = [f"{name:<8} {value}" for name, value in machine.items()]
    return "\n".join([*about, "", *laid_out, *([""] if missing else []), *missing, ""])


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


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column in _RIGHT else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


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
    """Ours at each number of invoices, divided by ours at the smallest; the reference beside it."""
    sizes = list(by_size)
    smallest = {figure.row.name: figure for figure in by_size[sizes[0]]}
    lines = [("row", "unit", *(f"{size:,}" for size in sizes), "grown", "reference grown")]
    for name, first in smallest.items():
        figures = [next(each for each in by_size[size] if each.row.name == name) for size in sizes]
        if first.missing is not None:
            lines.append((name, f"not available: {first.missing}", *([""] * len(sizes)), "", ""))
            continue
        ours, beside = ([getattr(each, side) for each in figures] for side in ("ours", "reference"))
        shown = [number(value, "").strip() for value in ours]
        lines.append((name, first.row.unit, *shown, _grown(ours), _grown(beside)))
    widths = [max(len(line[column]) for line in lines if len(line[1]) < 10) for column in range(len(lines[0]))]
    laid_out = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    about = [f"{name:<8} {value}" for name, value in machine.items()]
    return "\n".join([*about, "", *(line.rstrip() for line in laid_out), ""])


def _grown(values: Sequence[float | None]) -> str:
    if not values[0] or any(value is None for value in values):
        return "-"
    return " ".join(f"{value / values[0]:.2f}" for value in values if value is not None)
