"""Metadata, LNURL encoding and payer data."""

from __future__ import annotations

import json

import pytest
from cln_paycodes.core import lnurl
from cln_paycodes.errors import BadParameter
from hypothesis import given
from hypothesis import strategies as st


def test_lnurl_of_the_specification() -> None:
    """The example of LUD-01, in upper case."""
    url = "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df"

    assert lnurl.encode_lnurl(url) == (
        "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXXEP"
        "NXSCRVWFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
    )


@given(st.text(max_size=700))
def test_metadata_is_json_that_says_the_description(description: str) -> None:
    """Whatever the text: exactly one text/plain of one short line, and the whole text when that is not all."""
    entries = json.loads(lnurl.metadata(description, None))
    named = dict(entries)

    assert [name for name, _ in entries].count("text/plain") == 1
    assert len(named["text/plain"]) <= lnurl.SUMMARY_CHARS
    assert "\n" not in named["text/plain"]
    assert named.get("text/long-desc", named["text/plain"]).strip() == description.strip()


def test_metadata_has_the_lightning_address() -> None:
    """LUD-16: text/identifier, when there is one."""
    assert lnurl.metadata("Tea", "shop@example.com") == '[["text/plain","Tea"],["text/identifier","shop@example.com"]]'
    assert lnurl.metadata("Tea", None) == '[["text/plain","Tea"]]'


def test_payer_data_is_found_again_behind_the_metadata() -> None:
    """A rebuilt sidecar reads it from what the node kept."""
    raw = '{"name":"A] [\\"B"}'
    described = lnurl.metadata('Tea "x"]', "shop@example.com") + raw

    assert lnurl.payer_data_of(described) == {"name": 'A] ["B'}


@pytest.mark.parametrize("description", ["", "Tea", "[Tea", '[["text/plain","Tea"]]', "[1] and more", "[" * 10_000])
def test_a_description_without_payer_data_has_none(description: str) -> None:
    """Plain descriptions and metadata alone are no payer data."""
    assert lnurl.payer_data_of(description) is None


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "null",
        "[]",
        "{",
        '{"name":1}',
        '{"pubkey":"02"}',
        '{"email":"x"}',
        '{"identifier":"a b@c"}',
        '{"name":"' + "x" * 257 + '"}',
        '{"name":"\\u202e"}',
        "[" * 4000,
        " " * 5000 + "{}",
    ],
    ids=lambda raw: raw[:20],
)
def test_payer_data_that_was_not_asked_for_is_refused(raw: str) -> None:
    """LUD-18: an object with only the named fields, as short strings of their kind."""
    with pytest.raises(BadParameter, match="payerdata"):
        lnurl.read_payer_data(raw)


def test_a_callback_is_read() -> None:
    """Amount, comment and payer data; an empty comment is none."""
    asked = lnurl.read_callback({"amount": "21000", "comment": "", "payerdata": '{"name":"Al"}', "other": "x"})

    assert (asked.amount_msat, asked.comment) == (21_000, None)
    assert (asked.payer_data, asked.payer_data_raw) == ({"name": "Al"}, '{"name":"Al"}')


@pytest.mark.parametrize("amount", ["", "0", "-1", "+1", "1.0", "1e3", "\u0663", " 1", "2100000000000000001", "9" * 30])
def test_an_amount_that_is_none_is_refused(amount: str) -> None:
    """A whole number of msat that can exist, in ASCII digits."""
    with pytest.raises(BadParameter, match="amount"):
        lnurl.read_callback({"amount": amount})
