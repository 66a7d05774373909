"""BOLT 11: the invoice that the node is asked to sign, and what is read from one.

`encode` writes what lightningd's own encoder writes (`bolt11_encode_` in its common/bolt11.c, v26.06), field for field
in its order, so that `signinvoice` and `createinvoice` change nothing but the signature:

    timestamp, s payment secret, p payment hash, h or d description, x expiry, c final CLTV, r route hints, 9 features
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from . import bech32

#: From the node's network to the prefix behind `ln` (lightningd's bitcoin/chainparams.c).
CURRENCIES = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}

#: BOLT 9: only an invoice that has payment metadata may say so, and none here has.
_PAYMENT_METADATA = 3 << 48

#: BOLT 11: an invoice without `x` is good for an hour, and lightningd writes none that says so.
_DEFAULT_EXPIRY_S = 3600

#: lightningd keeps the lowest 16 bits of a longer one.
_CLTV_DELTA_MAX = 0xFFFF

#: The length of a field has ten bits.
_FIELD_MAX_WORDS = 1023

#: Bytes of a description that stands in the invoice itself.
DESCRIPTION_MAX_BYTES = _FIELD_MAX_WORDS * 5 // 8

#: BOLT 11: the data part begins with a timestamp of 35 bits, and a signature of 65 bytes ends it.
_TIMESTAMP_WORDS = 7
_SIGNATURE_BYTES = 65
_SIGNATURE_WORDS = 104
_CHECKSUM_WORDS = 6

#: lightningd counts what it reads in tenths of a msat, in 64 bits, and refuses an invoice for more.
READABLE_MSAT = (2**64 - 1) // 10

_MSAT_PER_BTC = 10**11
#: Largest first, in msat; what none of them divides is told in tenths of a msat, `p`.
_MULTIPLIERS = (("", _MSAT_PER_BTC), ("m", _MSAT_PER_BTC // 10**3), ("u", _MSAT_PER_BTC // 10**6), ("n", 100))

_TAGS = {character: word for word, character in enumerate(bech32.CHARSET)}

#: How the field of a description's hash begins: its tag, and its length of 52 words; a reader skips other lengths.
_HASH_FIELD = "hp5"

#: From a character's ASCII code to its five bits; 32 for one that is none.
_WORDS = bytes(_TAGS.get(chr(code), 32) for code in range(256))

#: From a character's ASCII code to the digit of base 32 that Python has for it; a full stop for one that is none.
_DIGITS = bytes(ord("." if word == 32 else "0123456789abcdefghijklmnopqrstuv"[word]) for word in _WORDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    """One channel of a route hint."""

    #: The node that forwards over the channel: 33 bytes.
    node_id: bytes
    #: `block x transaction x output`, or an alias of that form.
    short_channel_id: str
    fee_base_msat: int
    fee_proportional_millionths: int
    cltv_expiry_delta: int

    def packed(self) -> bytes:
        """51 bytes, as in the field `r`; ValueError or OverflowError for what does not fit."""
        if len(self.node_id) != 33:
            raise ValueError("a node id has 33 bytes")
        return (
            self.node_id
            + short_channel_id_number(self.short_channel_id).to_bytes(8, "big")
            + self.fee_base_msat.to_bytes(4, "big")
            + self.fee_proportional_millionths.to_bytes(4, "big")
            + self.cltv_expiry_delta.to_bytes(2, "big")
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsignedInvoice:
    """What an invoice says, before the node signs it."""

    #: One of `CURRENCIES`' values.
    currency: str
    #: None: the payer chooses.
    amount_msat: int | None
    timestamp: int
    #: 32 bytes each.
    payment_hash: bytes
    payment_secret: bytes
    #: The text itself, or the SHA256 of one: 32 bytes.
    description: str | bytes
    expiry_s: int
    min_final_cltv_expiry_delta: int
    #: `features_from` the node's.
    features: int
    #: Each a route of hops from outside towards us.
    route_hints: tuple[tuple[Hop, ...], ...] = ()
    #: The text whose hash `description` is, for `createinvoice`: it stores the text, and signs the hash without it.
    hashed_text: str | None = None


def encode(invoice: UnsignedInvoice, sign: Callable[[bytes], bytes] | None = None) -> str:
    """The invoice as a string, under a signature of zeros for `signinvoice` to replace.

    `sign` gets the SHA256 that BOLT 11 signs, and gives 64 bytes and the recovery id. ValueError for what cannot be in
    an invoice.
    """
    try:
        data, words = _data(invoice)
    except OverflowError as error:
        raise ValueError(f"not in an invoice: {error}") from error
    hrp = f"ln{invoice.currency}{_amount(invoice.amount_msat)}"
    signature = bytes(_SIGNATURE_BYTES) if sign is None else sign(_digest(hrp, data, words))
    signed = data << 8 * _SIGNATURE_BYTES | int.from_bytes(signature, "big")
    return bech32.encode(hrp, signed, words + _SIGNATURE_WORDS)


def features_from(our_features: str) -> int:
    """The feature bits of an invoice, from `our_features.invoice` of the node's `getinfo` (hex)."""
    return int(our_features, 16) & ~_PAYMENT_METADATA


def short_channel_id_number(short_channel_id: str) -> int:
    """64 bits: three of block, three of transaction and two bytes of output (BOLT 7)."""
    block, transaction, output = (int(part) for part in short_channel_id.split("x"))
    return int.from_bytes(block.to_bytes(3, "big") + transaction.to_bytes(3, "big") + output.to_bytes(2, "big"), "big")


def timestamp_of(bolt11: str) -> int:
    """Unix seconds at which the invoice was made; ValueError when it is not a BOLT 11 string."""
    begin = bolt11.rfind("1") + 1
    data = bolt11[begin : begin + _TIMESTAMP_WORDS].lower().encode()
    if len(data) < _TIMESTAMP_WORDS:
        raise ValueError("not a BOLT 11 invoice")
    return int(data.translate(_DIGITS), 32)


def commits_to_hash(bolt11: str) -> bool:
    """The invoice has the hash of its description (tag `h`) in place of the text; ValueError when it cannot be read."""
    text = bolt11.lower()
    if _HASH_FIELD not in text:
        return False
    words = text.rpartition("1")[2].encode().translate(_WORDS)
    if 32 in words:
        raise ValueError("not a BOLT 11 invoice")
    at, end = _TIMESTAMP_WORDS, len(words) - _SIGNATURE_WORDS - _CHECKSUM_WORDS
    while at + 3 <= end:
        tag, length = words[at], words[at + 1] << 5 | words[at + 2]
        if tag == _TAGS["h"]:
            return True
        at += 3 + length
    return False


def _amount(amount_msat: int | None) -> str:
    """The shortest way to write it (BOLT 11)."""
    if amount_msat is None:
        return ""
    if amount_msat < 1:
        raise ValueError(f"{amount_msat} msat is no amount of an invoice")
    for letter, unit in _MULTIPLIERS:
        if amount_msat % unit == 0:
            return f"{amount_msat // unit}{letter}"
    return f"{amount_msat * 10}p"


def _data(invoice: UnsignedInvoice) -> tuple[int, int]:
    """The words of the data part without signature, as one integer, and how many they are."""
    if not 0 <= invoice.timestamp < 1 << 5 * _TIMESTAMP_WORDS:
        raise ValueError(f"{invoice.timestamp} is not the time of an invoice")
    data, words = invoice.timestamp, _TIMESTAMP_WORDS
    for tag, value, length in _fields(invoice):
        if length > _FIELD_MAX_WORDS:
            raise ValueError(f"a field of an invoice has at most {_FIELD_MAX_WORDS} words")
        data = (data << 15 | _TAGS[tag] << 10 | length) << 5 * length | value
        words += 3 + length
    return data, words


def _fields(invoice: UnsignedInvoice) -> list[tuple[str, int, int]]:
    """The tagged fields in lightningd's order: tag, words as an integer, how many words."""
    fields = [
        ("s", *bech32.pack(_hash(invoice.payment_secret))),
        ("p", *bech32.pack(_hash(invoice.payment_hash))),
        _description(invoice.description),
    ]
    if invoice.hashed_text is not None:
        fields.append(_description(invoice.hashed_text))
    if invoice.min_final_cltv_expiry_delta > _CLTV_DELTA_MAX:
        raise ValueError(f"a CLTV delta is at most {_CLTV_DELTA_MAX}")
    if invoice.expiry_s != _DEFAULT_EXPIRY_S:
        fields.append(("x", *_of_number(invoice.expiry_s)))
    fields.append(("c", *_of_number(invoice.min_final_cltv_expiry_delta)))
    fields += [("r", *bech32.pack(b"".join(hop.packed() for hop in hops))) for hops in invoice.route_hints]
    if invoice.features:
        fields.append(("9", *_of_number(invoice.features)))
    return fields


def _description(description: str | bytes) -> tuple[str, int, int]:
    if isinstance(description, bytes):
        return ("h", *bech32.pack(_hash(description)))
    return ("d", *bech32.pack(description.encode()))


def _hash(value: bytes) -> bytes:
    if len(value) != 32:
        raise ValueError("a hash or secret of an invoice has 32 bytes")
    return value


def _of_number(value: int) -> tuple[int, int]:
    """As few words as it takes, at least one."""
    if value < 0:
        raise ValueError(f"{value} is below zero")
    return value, max(1, -(-value.bit_length() // 5))


def _digest(hrp: str, data: int, words: int) -> bytes:
    """BOLT 11: of the human readable part and the data, with zero bits at the end to whole bytes."""
    fill = -5 * words % 8
    return hashlib.sha256(hrp.encode() + (data << fill).to_bytes((5 * words + fill) // 8, "big")).digest()
