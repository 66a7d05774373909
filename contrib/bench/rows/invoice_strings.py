"""How many invoice strings per second are written: by the plugin's own encoder, and by the `bolt11` package.

Both write the same invoice (amount, description hash, one route hint), once without signing anew and once signed with
the same library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import bolt11 as package
from bitstring import Bits
from bolt11.models.features import Features
from bolt11.models.routehint import Route, RouteHint
from cln_paycodes.core.bolt11 import Hop, UnsignedInvoice, encode
from coincurve import PrivateKey

from ..stage import Stage
from ..suite import Measurement, Round, Row, take_turns

KEY = PrivateKey(b"\x33" * 32)

HOP = Hop(
    node_id=KEY.public_key.format(),
    short_channel_id="800000x1000x1",
    fee_base_msat=1000,
    fee_proportional_millionths=100,
    cltv_expiry_delta=40,
)

INVOICE = UnsignedInvoice(
    currency="bc",
    amount_msat=21_000_000,
    timestamp=1_700_000_000,
    payment_hash=b"\x11" * 32,
    payment_secret=b"\x22" * 32,
    description=b"\x44" * 32,
    expiry_s=604_800,
    min_final_cltv_expiry_delta=18,
    features=0x02024100,
    route_hints=((HOP,),),
)


STRINGS = 200


def measure(stage: Stage) -> Iterator[Round]:
    signed = _package_invoice()
    if encode(INVOICE, _sign) != package.encode(signed, private_key=KEY.to_hex()):
        raise SystemExit("the two do not write the same invoice")
    for number in range(stage.rounds):
        rates = take_turns(
            number,
            encode=lambda: _per_second(lambda: encode(INVOICE)),
            # It keeps the signature that it made above.
            package_encode=lambda: _per_second(lambda: package.encode(signed)),
            sign=lambda: _per_second(lambda: encode(INVOICE, _sign)),
            package_sign=lambda: _per_second(lambda: package.encode(_package_invoice(), private_key=KEY.to_hex())),
        )
        yield {
            "encode": (rates["encode"], rates["package_encode"]),
            "encode-sign": (rates["sign"], rates["package_sign"]),
        }


def _per_second(write: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(STRINGS):
        write()
    return STRINGS / (time.perf_counter() - began)


def _sign(digest: bytes) -> bytes:
    return KEY.sign_recoverable(digest, hasher=None)


def _package_invoice() -> package.Bolt11:
    """The same invoice in the package's terms; features are given in whole words, as it fills up at the wrong end."""
    assert isinstance(INVOICE.description, bytes)
    hop = Route(
        HOP.node_id.hex(),
        HOP.short_channel_id,
        HOP.fee_base_msat,
        HOP.fee_proportional_millionths,
        HOP.cltv_expiry_delta,
    )
    tags = [
        package.Tag(package.TagChar.payment_secret, INVOICE.payment_secret.hex()),
        package.Tag(package.TagChar.payment_hash, INVOICE.payment_hash.hex()),
        package.Tag(package.TagChar.description_hash, INVOICE.description.hex()),
        package.Tag(package.TagChar.expire_time, INVOICE.expiry_s),
        package.Tag(package.TagChar.min_final_cltv_expiry, INVOICE.min_final_cltv_expiry_delta),
        package.Tag(package.TagChar.route_hint, RouteHint([hop])),
        package.Tag(package.TagChar.features, Features(Bits(uint=INVOICE.features, length=30), {})),
    ]
    return package.Bolt11(
        currency=INVOICE.currency,
        amount_msat=package.MilliSatoshi(INVOICE.amount_msat or 0),
        date=INVOICE.timestamp,
        tags=package.Tags(tags),
    )


def _row(name: str, what: str) -> Row:
    return Row(name=name, what=f"invoice strings {what}", reference="by the bolt11 package", unit="/s")


MEASUREMENTS = (
    Measurement(rows=(_row("encode", "written"), _row("encode-sign", "written and signed")), rounds=measure),
)
