"""BOLT 11 strings, written and read, against the `bolt11` package."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import bolt11
import pytest
from bech32 import bech32_decode
from bitstring import Bits
from bolt11 import Bolt11, MilliSatoshi, Tag, TagChar, Tags
from bolt11.models.features import Features
from bolt11.models.routehint import Route, RouteHint
from cln_paycodes.core.bolt11 import Hop, UnsignedInvoice, commits_to_hash, encode, features_from, timestamp_of
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

# The examples of BOLT 11 were all made at this time.
SPECIFICATION_TIME = 1496314658
SPECIFICATION_EXAMPLE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq"
    "5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qf"
    "egext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)

#: What lightningd v26.06 answers in `getinfo`, and what it puts into an invoice.
OUR_FEATURES = "02000002024100"
INVOICE_FEATURES = 0x02024100

KEY = PrivateKey(b"\x33" * 32)

PLAIN = UnsignedInvoice(
    currency="bc",
    amount_msat=250_000_000,
    timestamp=SPECIFICATION_TIME,
    payment_hash=bytes.fromhex("0001020304050607080900010203040506070809000102030405060708090102"),
    payment_secret=b"\x11" * 32,
    description="1 cup coffee",
    expiry_s=60,
    min_final_cltv_expiry_delta=18,
    features=INVOICE_FEATURES,
)

hashes = st.binary(min_size=32, max_size=32)


def _hops(*, top_bits: int) -> st.SearchStrategy[Hop]:
    """Hops with numbers that leave so many of their highest bits alone."""
    return st.builds(
        Hop,
        node_id=st.integers(1, 2**64).map(lambda secret: PrivateKey.from_int(secret).public_key.format()),
        short_channel_id=st.builds(
            "{}x{}x{}".format,
            st.integers(0, 2 ** (24 - top_bits) - 1),
            st.integers(0, 2**24 - 1),
            st.integers(0, 2**16 - 1),
        ),
        fee_base_msat=st.integers(0, 2 ** (32 - top_bits) - 1),
        fee_proportional_millionths=st.integers(0, 2 ** (32 - top_bits) - 1),
        cltv_expiry_delta=st.integers(0, 2 ** (16 - top_bits) - 1),
    )


def _invoices(*, hops: st.SearchStrategy[Hop], below_msat: int) -> st.SearchStrategy[UnsignedInvoice]:
    return st.builds(
        UnsignedInvoice,
        currency=st.sampled_from(["bc", "tb", "tbs", "bcrt"]),
        amount_msat=st.none()
        | st.integers(1, below_msat - 1)
        | st.builds(lambda digits, zeros: digits * 10**zeros, st.integers(1, 99), st.integers(0, 11)),
        timestamp=st.integers(0, 2**35 - 1),
        payment_hash=hashes,
        payment_secret=hashes,
        description=hashes | st.text(max_size=150),
        expiry_s=st.integers(1, 2**59) | st.just(3600),
        min_final_cltv_expiry_delta=st.integers(1, 2**16 - 1),
        features=st.just(INVOICE_FEATURES) | st.integers(0, 2**90),
        route_hints=st.lists(st.lists(hops, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple),
    )


#: The package writes a whole multiple of 1000 bitcoin as a thousandth of it.
invoices = _invoices(hops=_hops(top_bits=0), below_msat=10**14)

#: The package reads the numbers of a hop as signed.
readable_invoices = _invoices(hops=_hops(top_bits=1), below_msat=21 * 10**17)


def _sign(digest: bytes) -> bytes:
    return KEY.sign_recoverable(digest, hasher=None)


def _by_the_package(invoice: UnsignedInvoice) -> str:
    """The same invoice, its fields in lightningd's order, written by the package."""
    if isinstance(invoice.description, bytes):
        description = Tag(TagChar.description_hash, invoice.description.hex())
    else:
        description = Tag(TagChar.description, invoice.description)
    tags = [
        Tag(TagChar.payment_secret, invoice.payment_secret.hex()),
        Tag(TagChar.payment_hash, invoice.payment_hash.hex()),
        description,
    ]
    if invoice.expiry_s != 3600:
        tags.append(Tag(TagChar.expire_time, invoice.expiry_s))
    tags.append(Tag(TagChar.min_final_cltv_expiry, invoice.min_final_cltv_expiry_delta))
    tags += [Tag(TagChar.route_hint, RouteHint([_route(hop) for hop in hint])) for hint in invoice.route_hints]
    if invoice.features:
        length = -(-invoice.features.bit_length() // 5) * 5
        tags.append(Tag(TagChar.features, Features(Bits(uint=invoice.features, length=length), {})))
    amount = None if invoice.amount_msat is None else MilliSatoshi(invoice.amount_msat)
    written = Bolt11(currency=invoice.currency, date=invoice.timestamp, tags=Tags(tags), amount_msat=amount)
    return str(bolt11.encode(written, private_key=KEY.to_hex(), ignore_exceptions=True))


def _route(hop: Hop) -> Route:
    return Route(
        hop.node_id.hex(),
        hop.short_channel_id,
        hop.fee_base_msat,
        hop.fee_proportional_millionths,
        hop.cltv_expiry_delta,
    )


def _read_by_the_package(string: str) -> dict[str, Any]:
    """Its fields, named as ours."""
    read = bolt11.decode(string, ignore_exceptions=True)
    return {
        "payee": read.payee,
        "currency": read.currency,
        "amount_msat": read.amount_msat,
        "timestamp": read.date,
        "payment_hash": read.payment_hash,
        "payment_secret": read.payment_secret,
        "description": read.description if read.description_hash is None else bytes.fromhex(read.description_hash),
        "expiry_s": read.expiry,
        "min_final_cltv_expiry_delta": read.min_final_cltv_expiry,
        # Not its names: it numbers some of them wrongly.
        "features": 0 if read.features is None else read.features.data.uint,
        "route_hints": [hint.routes for hint in read.route_hints or ()],
    }


def _fields(invoice: UnsignedInvoice) -> dict[str, Any]:
    return {
        "payee": KEY.public_key.format().hex(),
        "currency": invoice.currency,
        "amount_msat": invoice.amount_msat,
        "timestamp": invoice.timestamp,
        "payment_hash": invoice.payment_hash.hex(),
        "payment_secret": invoice.payment_secret.hex(),
        "description": invoice.description,
        "expiry_s": invoice.expiry_s,
        "min_final_cltv_expiry_delta": invoice.min_final_cltv_expiry_delta,
        "features": invoice.features,
        "route_hints": [[_route(hop) for hop in hint] for hint in invoice.route_hints],
    }


@given(invoice=readable_invoices)
def test_the_package_reads_what_was_meant(invoice: UnsignedInvoice) -> None:
    """Every field of a string of ours is read back by the package, under a signature that it accepts."""
    assert _read_by_the_package(encode(invoice, _sign)) == _fields(invoice)


@pytest.mark.skipif(version("bolt11") < "2.2", reason="bolt11 before 2.2 has no room for large fees in a route hint")
@given(invoice=invoices)
def test_string_is_the_one_that_the_package_writes(invoice: UnsignedInvoice) -> None:
    """The same fields in the same order under the same key are the same string, byte for byte."""
    assert encode(invoice, _sign) == _by_the_package(invoice)


@given(invoice=invoices)
def test_unsigned_string_differs_in_its_signature_only(invoice: UnsignedInvoice) -> None:
    """Without a key the same string ends in zeros where the signature goes, and in a checksum."""
    unsigned, signed = encode(invoice), encode(invoice, _sign)

    assert unsigned[:-110] == signed[:-110]
    assert unsigned[-110:-6] == "q" * 104
    assert bech32_decode(unsigned) != (None, None)


@given(invoice=invoices)
def test_what_is_written_is_read(invoice: UnsignedInvoice) -> None:
    """The time, and whether there is a hash in place of a description, are read from our own strings."""
    string = encode(invoice)

    assert timestamp_of(string) == invoice.timestamp
    assert commits_to_hash(string) == isinstance(invoice.description, bytes)


@pytest.mark.parametrize(
    ("amount_msat", "written"),
    [
        (None, ""),
        (1, "10p"),
        (99, "990p"),
        (100, "1n"),
        (123_456, "1234560p"),
        (100_000, "1u"),
        (250_000_000, "2500u"),
        (2_000_000_000, "20m"),
        (10**11, "1"),
        (21 * 10**17, "21000000"),
    ],
)
def test_amount_is_written_the_shortest_way(amount_msat: int | None, written: str) -> None:
    """The largest multiplier that divides the amount is used."""
    assert encode(replace(PLAIN, amount_msat=amount_msat)).startswith(f"lnbc{written}1")


def test_features_of_the_node_leave_payment_metadata_out() -> None:
    """An invoice never says that it has payment metadata: the node does not say so in its own either."""
    assert features_from(OUR_FEATURES) == INVOICE_FEATURES


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_msat": 0},
        {"amount_msat": -1},
        {"timestamp": -1},
        {"timestamp": 2**35},
        {"payment_hash": b"\x11" * 31},
        {"payment_secret": b"\x11" * 33},
        {"description": b"\x11" * 20},
        {"description": "a" * 640},
        {"description": "\ud800"},
        {"expiry_s": -1},
        {"min_final_cltv_expiry_delta": -1},
        {"min_final_cltv_expiry_delta": 2**16},
        {"currency": "b\u20bf"},
    ],
)
def test_what_cannot_be_in_an_invoice_is_refused(wrong: dict[str, Any]) -> None:
    """A field that does not fit is a ValueError, never a string that says something else."""
    with pytest.raises(ValueError, match=r"."):
        encode(replace(PLAIN, **wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"node_id": b"\2" * 32},
        {"short_channel_id": "1x2"},
        {"short_channel_id": "1x2x65536"},
        {"short_channel_id": f"{2**24}x1x1"},
        {"fee_base_msat": 2**32},
        {"fee_proportional_millionths": -1},
        {"cltv_expiry_delta": 2**16},
    ],
)
def test_a_hop_that_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    """So is a route hint with a part out of its range."""
    hop = Hop(
        node_id=b"\2" * 33,
        short_channel_id="1x2x3",
        fee_base_msat=1,
        fee_proportional_millionths=1,
        cltv_expiry_delta=6,
    )

    with pytest.raises(ValueError, match=r"."):
        encode(replace(PLAIN, route_hints=((replace(hop, **wrong),),)))


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
