"""Amounts as people read and type them: satoshi, with up to three decimals for the msat."""

from __future__ import annotations

import re

from .terms import Terms

_TYPED = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,3}))?", re.ASCII)


def format_sat(amount_msat: int) -> str:
    """`21,000` or `0.5`, without the unit."""
    sat, rest = divmod(amount_msat, 1000)
    return f"{sat:,}" + (f".{rest:03}".rstrip("0") if rest else "")


def parse_sat(text: str) -> int | None:
    """Millisatoshi of what a person typed, None when it is no amount."""
    match = _TYPED.fullmatch(re.sub(r"[\s,\u2009]", "", text))
    if match is None:
        return None
    return int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))


def has_whole_sat(terms: Terms) -> bool:
    """Some amount within the limits is a whole number of satoshi."""
    return terms.highest_msat // 1000 * 1000 >= terms.min_msat


def limits_text(terms: Terms) -> str:
    """The limits in words, in whole satoshi where there are any."""
    lowest, highest = terms.min_msat, terms.max_msat
    if has_whole_sat(terms):
        lowest = -(-lowest // 1000) * 1000
        highest = None if highest is None else highest // 1000 * 1000
    if highest is None:
        return f"At least {format_sat(lowest)} sat."
    return f"From {format_sat(lowest)} to {format_sat(highest)} sat."
