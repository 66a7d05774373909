"""How many invoice strings per second are written: by the plugin's own encoder, and by the `bolt11` package.

    python contrib/bench/invoice_strings.py [--rounds 15] [--strings 50]

Both write the same invoice (amount, description hash, one route hint), once without signing anew and once signed with
the same library; rounds of all four alternate, each figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "plugin" / "paycodes")]

import bolt11 as package
from bitstring import Bits
from bolt11.models.features import Features
from bolt11.models.routehint import Route, RouteHint
from cln_paycodes.core.bolt11 import Hop, UnsignedInvoice, encode
from coincurve import PrivateKey

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


@dataclass(frozen=True)
class Row:
    """Strings per second."""

    what: str
    ours: float
    package: float

    @property
    def factor(self) -> float:
        return self.ours / self.package


def measure(rounds: int = 15, strings: int = 50) -> list[Row]:
    """Encoding alone, and with signing."""
    signed = _package_invoice()
    if encode(INVOICE, _sign) != package.encode(signed, private_key=KEY.to_hex()):
        raise SystemExit("the two do not write the same invoice")
    contestants: list[Callable[[], object]] = [
        lambda: encode(INVOICE),
        # It keeps the signature that it made above.
        lambda: package.encode(signed),
        lambda: encode(INVOICE, _sign),
        lambda: package.encode(_package_invoice(), private_key=KEY.to_hex()),
    ]
    times: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for contestant, seen in zip(contestants, times, strict=True):
            seen.append(_seconds(contestant, strings))
    rates = [strings / statistics.median(seen) for seen in times]
    return [Row("encode", rates[0], rates[1]), Row("encode and sign", rates[2], rates[3])]


def _seconds(write: Callable[[], object], strings: int) -> float:
    began = time.perf_counter()
    for _ in range(strings):
        write()
    return time.perf_counter() - began


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--strings", type=int, default=50, help="in each round of each")
    arguments = parser.parse_args()
    print(f"{'strings/s':<18}{'ours':>10}{'package':>10}{'factor':>9}")
    for row in measure(arguments.rounds, arguments.strings):
        print(f"{row.what:<18}{row.ours:>10.0f}{row.package:>10.0f}{row.factor:>8.0f}x")


if __name__ == "__main__":
    main()
