"""What is read from a BOLT 11 string, against the `bolt11` package."""

from __future__ import annotations

import bolt11
import pytest
from bolt11 import Bolt11, MilliSatoshi, TagChar, Tags
from cln_paycodes.core.bolt11 import timestamp_of
from hypothesis import given, settings
from hypothesis import strategies as st

# The examples of BOLT 11 were all made at this time.
SPECIFICATION_TIME = 1496314658
SPECIFICATION_EXAMPLE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq"
    "5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qf"
    "egext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)


def _invoice(*, date: int, amount_msat: int | None, currency: str) -> str:
    tags = Tags()
    tags.add(TagChar.payment_hash, "11" * 32)
    tags.add(TagChar.payment_secret, "22" * 32)
    tags.add(TagChar.description, "one coffee")
    amount = None if amount_msat is None else MilliSatoshi(amount_msat)
    invoice = Bolt11(currency=currency, date=date, tags=tags, amount_msat=amount)
    return bolt11.encode(invoice, private_key="33" * 32, ignore_exceptions=True)


def test_time_of_the_specifications_example() -> None:
    """The example of BOLT 11 was made when the text says, in capitals too."""
    assert timestamp_of(SPECIFICATION_EXAMPLE) == SPECIFICATION_TIME
    assert timestamp_of(SPECIFICATION_EXAMPLE.upper()) == SPECIFICATION_TIME


@settings(max_examples=20)
@given(
    date=st.integers(1, 2**35 - 1),
    amount_msat=st.none() | st.integers(1, 10**15).map(lambda sat: sat * 1000),
    currency=st.sampled_from(["bc", "bcrt", "tb"]),
)
def test_time_agrees_with_the_bolt11_package(date: int, amount_msat: int | None, currency: str) -> None:
    """Whatever the network and the amount, the time is the one that was signed."""
    assert timestamp_of(_invoice(date=date, amount_msat=amount_msat, currency=currency)) == date


@pytest.mark.parametrize("text", ["", "1", "lnbc", "lnbc1", "lnbc1pvjlue", "lnbc1pvjlub0", "not an invoice"])
def test_what_is_no_invoice_is_refused(text: str) -> None:
    """A string that has no time of an invoice in it is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        timestamp_of(text)
