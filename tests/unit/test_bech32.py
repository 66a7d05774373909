"""Bech32 as a whole: the same strings as the `bech32` package writes."""

from __future__ import annotations

import bech32 as oracle
import pytest
from cln_paycodes.core import bech32
from hypothesis import given, settings
from hypothesis import strategies as st

PREFIX_CHARACTERS = [chr(code) for code in range(33, 127) if not chr(code).isupper()]

#: From BIP 173.
SPLIT = "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w"


def packed(words: list[int]) -> int:
    value = 0
    for word in words:
        value = value << 5 | word
    return value


@settings(max_examples=100)
@given(
    hrp=st.text(st.sampled_from(PREFIX_CHARACTERS), min_size=1, max_size=83),
    words=st.lists(st.integers(0, 31), max_size=2000),
)
def test_strings_are_those_of_the_bech32_package(hrp: str, words: list[int]) -> None:
    """Whatever the prefix and the length, the string is the one that the package writes."""
    assert bech32.encode(hrp, packed(words), len(words)) == oracle.bech32_encode(hrp, words)


@given(data=st.binary(max_size=200))
def test_bytes_are_packed_as_the_bech32_package_does(data: bytes) -> None:
    """Eight bits become five, with zeros behind the last."""
    words = oracle.convertbits(data, 8, 5)
    assert words is not None

    assert bech32.pack(data) == (packed(words), len(words))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 31, 32, 33, 255, 256, 257, 1023, 1024, 1025])
def test_words_at_every_border_of_a_size_are_kept(length: int) -> None:
    """Words keep their place on both sides of each power of two, with all bits set and with few."""
    full, sparse = [31] * length, [place % 32 for place in range(length)]

    assert bech32.unpack(packed(full), length) == bytes(full)
    assert bech32.unpack(packed(sparse), length) == bytes(sparse)


def test_a_longest_invoice_has_its_checksum() -> None:
    """A string far longer than any before it gets masks of its own."""
    words = [7] * 20_000

    assert bech32.encode("lnbc", packed(words), len(words)) == oracle.bech32_encode("lnbc", words)


def test_valid_strings_of_bip_173() -> None:
    """Two of the valid strings that BIP 173 lists."""
    words = oracle.bech32_decode(SPLIT)[1]
    assert words is not None

    assert bech32.encode("?", 0, 0) == "?1ezyfcl"
    assert bech32.encode("split", packed(words), len(words)) == SPLIT
