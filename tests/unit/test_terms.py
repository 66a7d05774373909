"""Terms of a paycode: every limit at its edge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cln_paycodes.core.terms import SUPPLY_MSAT, Terms, check_text
from cln_paycodes.errors import BadParameter
from hypothesis import given
from hypothesis import strategies as st

COFFEE = Terms(label="coffee", description="One coffee")
YEAR_S = 365 * 24 * 3600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", "x"),
        ("label", "x" * 128),
        ("label", "Café № 1 \U0001f355"),
        ("description", ""),
        ("description", "x" * 639),
        ("description", "é" * 319),
        ("description", "two\nlines"),
        ("user", None),
        ("user", "a"),
        ("user", "a-z_0.9"),
        ("user", "u" * 63),
        ("min_msat", 1),
        ("min_msat", SUPPLY_MSAT),
        ("max_msat", None),
        ("max_msat", 1),
        ("max_msat", SUPPLY_MSAT),
        ("expiry", 1),
        ("expiry", YEAR_S),
        ("comment_chars", 0),
        ("comment_chars", 2000),
        ("max_pending", None),
        ("max_pending", 1),
        ("max_pending", 1_000_000),
    ],
)
def test_term_within_its_limits_is_taken(name: str, value: Any) -> None:
    """A value at the edge of what is allowed is kept as it is."""
    assert getattr(replace(COFFEE, **{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", ""),
        ("label", " "),
        ("label", " coffee"),
        ("label", "coffee\u00a0"),
        ("label", "x" * 129),
        ("label", "x" * 10_000),
        ("label", "two\nlines"),
        ("label", "nul\0"),
        ("label", "bell\x07"),
        ("label", "c1\x9b"),
        ("label", "turned \u202e around"),
        ("label", "zero\u200bwidth"),
        ("label", "half \ud800"),
        ("description", "x" * 640),
        ("description", "é" * 320),
        ("description", "nul\0"),
        ("description", "turned \u2066 around"),
        ("description", "half \udfff"),
        ("user", ""),
        ("user", "u" * 64),
        ("user", "Upper"),
        ("user", "at@home"),
        ("user", "é"),
        ("user", "user\n"),
        ("user", "a b"),
        ("user", "a/b"),
        ("min_msat", 0),
        ("min_msat", -1),
        ("min_msat", SUPPLY_MSAT + 1),
        ("max_msat", 0),
        ("max_msat", SUPPLY_MSAT + 1),
        ("expiry", 0),
        ("expiry", -1),
        ("expiry", YEAR_S + 1),
        ("expiry", 2**60),
        ("comment_chars", -1),
        ("comment_chars", 2001),
        ("max_pending", 0),
        ("max_pending", 1_000_001),
    ],
)
def test_term_beyond_its_limits_is_refused_by_name(name: str, value: Any) -> None:
    """A value beyond what is allowed is refused, and the message begins with the term's name."""
    with pytest.raises(BadParameter, match=f"^{name}: "):
        replace(COFFEE, **{name: value})


def test_upper_limit_below_the_lower_is_refused() -> None:
    """No code is made that no amount fits."""
    with pytest.raises(BadParameter, match=r"^max_msat: 999 is below min_msat 1000"):
        replace(COFFEE, min_msat=1000, max_msat=999)


def test_one_amount_alone_can_be_asked_for() -> None:
    """Lower and upper limit may be the same, and people read that one amount."""
    fixed = replace(COFFEE, min_msat=1000, max_msat=1000)

    assert fixed.highest_msat == 1000
    assert fixed.amounts == "1000"
    assert replace(fixed, max_msat=2000).amounts == "1000 to 2000"


def test_differing_terms_are_named() -> None:
    """Who asks for a code that exists learns which terms are in the way."""
    assert COFFEE.differing(replace(COFFEE, min_msat=7, hold=True)) == ["min_msat", "hold"]
    assert COFFEE.differing(replace(COFFEE)) == []


def test_code_without_comments_says_so() -> None:
    """People do not read of at most 0 characters."""
    assert replace(COFFEE, comment_chars=0).comments == "none"
    assert replace(COFFEE, comment_chars=7).comments == "at most 7 characters"


def test_without_an_upper_limit_the_supply_is_the_limit() -> None:
    """An open code still asks for no more than there can be."""
    assert COFFEE.highest_msat == SUPPLY_MSAT == 2_100_000_000_000_000_000


@given(text=st.text(st.characters(exclude_categories=()), max_size=50))
def test_checked_text_is_valid_and_stays_on_its_line(text: str) -> None:
    """Whatever passes can be stored as UTF-8 and printed on one line."""
    try:
        check_text("comment", text)
    except BadParameter as refused:
        assert refused.message.startswith("comment: ")  # noqa: PT017 (either outcome is right, for some text)
    else:
        assert text.encode().decode() == text
        assert len(text.splitlines()) <= 1
