"""BOLT 11: the strings that invoices are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from bech32 import bech32_decode, bech32_encode
from bitstring import Bits
from bolt11 import Bolt11, Bolt11Exception
from bolt11 import decode as bolt11_decode
from bolt11 import encode as bolt11_encode
from bolt11.models.features import Features
from bolt11.models.signature import Signature
from bolt11.models.tags import Tag, TagChar, Tags
from bolt11.types import MilliSatoshi
from coincurve.ecdsa import cdata_to_der, deserialize_recoverable, recoverable_convert

#: The human readable prefix for each network.
CURRENCIES = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}

#: What lightningd v26.06 puts into an invoice: var_onion, payment_secret, basic_mpp and route blinding.
FEATURES_HEX = "02024100"

#: The same in whole groups of five bits, filled up at the front: bolt11 would fill up at the end.
_FEATURES = Bits(uint=int(FEATURES_HEX, 16), length=-(-int(FEATURES_HEX, 16).bit_length() // 5) * 5)

#: BOLT 11 descriptions hold at most 639 bytes (1023 groups of five bits).
DESCRIPTION_MAX_BYTES = 639

#: The data part begins with a timestamp of 35 bits.
_TIMESTAMP_GROUPS = 7

#: Tags `d` and `h` (BOLT 11).
_TEXT_TAG, _HASH_TAG = 13, 23

#: A signature and its recovery flag, 65 bytes, in bech32's groups of five bits.
_SIGNATURE_GROUPS = 65 * 8 // 5


class InvalidInvoice(ValueError):
    """A string that is no BOLT 11 invoice of this network."""


@dataclass(frozen=True)
class Terms:
    """What goes into a new invoice."""

    currency: str
    timestamp: int
    payment_hash: str
    payment_secret: str
    amount_msat: int | None
    description: str
    description_hash_only: bool
    expiry_s: int
    min_final_cltv: int


def encode(terms: Terms, private_key: str) -> str:
    """The signed invoice, its fields in the order in which lightningd writes them."""
    if terms.description_hash_only:
        digest = hashlib.sha256(terms.description.encode()).hexdigest()
        description = Tag(TagChar.description_hash, digest)
    else:
        description = Tag(TagChar.description, terms.description)
    tags = [
        Tag(TagChar.payment_secret, terms.payment_secret),
        Tag(TagChar.payment_hash, terms.payment_hash),
        description,
        Tag(TagChar.expire_time, terms.expiry_s),
        Tag(TagChar.min_final_cltv_expiry, terms.min_final_cltv),
        Tag(TagChar.features, Features(_FEATURES, {})),
    ]
    amount = None if terms.amount_msat is None else MilliSatoshi(terms.amount_msat)
    invoice = Bolt11(currency=terms.currency, amount_msat=amount, date=terms.timestamp, tags=Tags(tags))
    return str(bolt11_encode(invoice, private_key))


def decode(invstring: str, currency: str) -> Bolt11:
    """Raises InvalidInvoice; checks the signature."""
    try:
        invoice = bolt11_decode(canonical(invstring))
    except (Bolt11Exception, ValueError, IndexError, TypeError) as error:
        raise InvalidInvoice(f"Invalid bolt11: {error or type(error).__name__}") from error
    if invoice.currency != currency:
        raise InvalidInvoice(f"Invalid bolt11: Prefix {invoice.currency} is not for {currency}")
    return invoice


def canonical(invstring: str) -> str:
    """Lower case and without the URI scheme, as lightningd's ``to_canonical_invstr``."""
    lowered = invstring.lower()
    return lowered[len("lightning:") :] if lowered.startswith("lightning:") else lowered


def sign(invstring: str, currency: str, private_key: str) -> tuple[str, Bolt11]:
    """The same invoice under our signature; whatever signature it came with is not looked at."""
    hrp, groups = bech32_decode(canonical(invstring))
    if hrp is None or groups is None or len(groups) < _SIGNATURE_GROUPS:
        raise InvalidInvoice("Invalid bolt11: Bad bech32 string")
    unsigned = _as_signed(groups[:-_SIGNATURE_GROUPS])
    signature = Signature.from_private_key(hrp, private_key, _to_bytes(unsigned))
    signed = bech32_encode(hrp, unsigned + _to_groups(signature.signature_data))
    return signed, decode(signed, currency)


def text(invstring: str) -> str | None:
    """The description that a string has in full, be it signed or not."""
    groups = bech32_decode(canonical(invstring))[1] or []
    for field in _fields(groups[:-_SIGNATURE_GROUPS]):
        if field[0] == _TEXT_TAG:
            return _to_bytes(field[3:])[: len(field[3:]) * 5 // 8].decode()
    return None


def _fields(groups: list[int]) -> list[list[int]]:
    fields, at = [], _TIMESTAMP_GROUPS
    while at + 3 <= len(groups):
        end = at + 3 + (groups[at + 1] << 5 | groups[at + 2])
        fields.append(groups[at:end])
        at = end
    return fields


def _as_signed(groups: list[int]) -> list[int]:
    """The data part without a description's text where its hash is there too, as lightningd's encoder writes it."""
    fields = _fields(groups)
    has_hash = any(field[0] == _HASH_TAG for field in fields)
    kept = [field for field in fields if not (has_hash and field[0] == _TEXT_TAG)]
    return groups[:_TIMESTAMP_GROUPS] + [group for field in kept for group in field]


def _to_bytes(groups: list[int]) -> bytes:
    """Groups of five bits as bytes, with zero bits at the end: what BOLT 11 signs."""
    number = 0
    for group in groups:
        number = number << 5 | group
    padding = -5 * len(groups) % 8
    return (number << padding).to_bytes((5 * len(groups) + padding) // 8, "big")


def _to_groups(signature: bytes) -> list[int]:
    number = int.from_bytes(signature, "big")
    return [number >> 5 * place & 31 for place in reversed(range(_SIGNATURE_GROUPS))]


def features_hex(features: Features) -> str:
    """The feature bits as ``decode`` shows them: hex without leading zero bytes."""
    number = int(features.data.uint)
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


def der_signature(signature: Signature) -> str:
    """The signature as ``decode`` shows it: DER, without the recovery flag."""
    return bytes(cdata_to_der(recoverable_convert(deserialize_recoverable(signature.signature_data)))).hex()
