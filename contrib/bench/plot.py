"""Ratios as bars, drawn as SVG: ours over the reference on a scale of powers of two, with the goals as marks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from .suite import Figure

_LABEL, _WIDTH, _LINE = 430, 900, 24
_MARGIN, _TOP = 20, 64
#: The bars cover these ratios; what is beyond ends at the edge, and its number tells.
_LOWEST, _HIGHEST = 1 / 8, 8.0
_COLOURS = {"met": "#2e7d32", "MISSED": "#c62828", "": "#607d8b"}


def plot(figures: Sequence[Figure], machine: Mapping[str, str]) -> str:
    drawn = [figure for figure in figures if figure.ratio is not None]
    bottom = _TOP + _LINE * len(drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{bottom + 60}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_MARGIN, 20, "Paycodes beside its reference: ours / reference", size=15),
        _text(_MARGIN, 38, "; ".join(machine.values())[:150], size=9, colour="#555"),
        *(_scale(ratio, bottom) for ratio in (0.25, 0.5, 1, 2, 4)),
        *(part for place, figure in enumerate(drawn) for part in _bar(figure, _TOP + _LINE * place)),
        _text(_MARGIN, bottom + 40, "green: goal met; red: missed; grey: no goal; black mark: the goal", size=10),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _across(ratio: float) -> float:
    span = math.log(_HIGHEST / _LOWEST)
    share = math.log(min(max(ratio, _LOWEST), _HIGHEST) / _LOWEST) / span
    return _LABEL + share * (_WIDTH - _LABEL - 80)


def _scale(ratio: float, bottom: int) -> str:
    across, colour = _across(ratio), "#333" if ratio == 1 else "#ddd"
    line = f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{_TOP - 6}" y2="{bottom}" stroke="{colour}"/>'
    return line + _text(across - 8, bottom + 16, f"{ratio:g}", size=10)


def _bar(figure: Figure, top: int) -> list[str]:
    row, ratio = figure.row, figure.ratio
    assert ratio is not None
    start, end = sorted((_across(1), _across(ratio)))
    colour = _COLOURS[figure.verdict]
    parts = [
        _text(_MARGIN, top + 14, row.what[:70]),
        f'<rect x="{start:.1f}" y="{top + 3}" width="{max(end - start, 1):.1f}" height="14" fill="{colour}"/>',
        _text(end + 6, top + 14, f"{ratio:.2f}", colour=colour),
    ]
    if row.goal is not None and row.goal.of == "ratio":
        mark = _across(row.goal.limit)
        parts.append(
            f'<line x1="{mark:.1f}" x2="{mark:.1f}" y1="{top}" y2="{top + 20}" stroke="black" stroke-width="2"/>'
        )
    return parts


def _text(across: float, down: float, words: str, *, size: int = 12, colour: str = "black") -> str:
    return f'<text x="{across:.1f}" y="{down}" font-size="{size}" fill="{colour}">{escape(words)}</text>'
