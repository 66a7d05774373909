"""Satoshi as people read and type them."""

from __future__ import annotations

import pytest
from cln_paycodes.core.amounts import format_sat, limits_text, parse_sat
from cln_paycodes.core.terms import SUPPLY_MSAT, Terms
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, SUPPLY_MSAT))
def test_what_is_shown_can_be_typed(amount_msat: int) -> None:
    """An amount that was formatted reads back as itself."""
    assert parse_sat(format_sat(amount_msat)) == amount_msat


@pytest.mark.parametrize(("text", "amount_msat"), [("21 000", 21_000_000), ("0.5", 500), ("1.05", 1050), ("007", 7000)])
def test_typed_amounts(text: str, amount_msat: int) -> None:
    """Spaces and decimals are understood."""
    assert parse_sat(text) == amount_msat


@pytest.mark.parametrize("text", ["", "x", "-1", "1.0001", ".5", "1e5", "\u0661", "9" * 17])
def test_what_is_no_amount(text: str) -> None:
    """It is refused, not guessed."""
    assert parse_sat(text) is None


@pytest.mark.parametrize(
    ("min_msat", "max_msat", "text"),
    [
        (1, None, "At least 1 sat."),
        (1500, 9999, "From 2 to 9 sat."),
        (1200, 1800, "From 1.2 to 1.8 sat."),
        (5000, 5000, "From 5 to 5 sat."),
    ],
)
def test_limits_in_words(min_msat: int, max_msat: int | None, text: str) -> None:
    """Whole satoshi within the limits, where there are any."""
    assert limits_text(Terms(label="x", description="x", min_msat=min_msat, max_msat=max_msat)) == text
