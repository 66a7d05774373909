"""Adding a multiple of secp256k1's generator to a point, as a sum of points from a table.

A rebuilt sidecar derives one key for each invoice that the node ever had. A scalar of 32 bytes is a sum of one table
entry per byte: 11 us, where libsecp256k1's own addition of a tweak, which doubles its way through the scalar, takes 21.
The library is called as coincurve calls it (its `PublicKey.combine_keys` and `format`), without the objects around each
point, which would take another 5 us.
"""

from __future__ import annotations

from functools import cache
from itertools import compress
from operator import getitem
from typing import Any

from coincurve import PrivateKey, PublicKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from coincurve.flags import EC_COMPRESSED

SCALAR_BYTES = 32
COMPRESSED_BYTES = 33

_CONTEXT = GLOBAL_CONTEXT.ctx


def add_multiple(point: PublicKey, scalar: bytes) -> bytes:
    """`point + scalar*G` for a scalar of 32 bytes, compressed; ValueError when that is the point at infinity."""
    terms = list(map(getitem, _table(), scalar))
    if 0 in scalar:
        terms = list(compress(terms, scalar))
    terms.append(point.public_key)
    total = _sum(terms)
    compressed = ffi.new("unsigned char[]", COMPRESSED_BYTES)
    length = ffi.new("size_t *", COMPRESSED_BYTES)
    lib.secp256k1_ec_pubkey_serialize(_CONTEXT, compressed, length, total, EC_COMPRESSED)
    return bytes(ffi.buffer(compressed))


def _sum(points: list[Any]) -> Any:
    total = ffi.new("secp256k1_pubkey *")
    if not lib.secp256k1_ec_pubkey_combine(_CONTEXT, total, points, len(points)):
        raise ValueError("the sum is the point at infinity")
    return total


@cache
def _table() -> list[list[Any]]:
    """By place and value of a byte, its multiple of the generator; made once, in 18 ms. The value 0 has no point: its
    entry is never used.
    """
    return [_row(8 * (SCALAR_BYTES - 1 - place)) for place in range(SCALAR_BYTES)]


def _row(bits: int) -> list[Any]:
    step = PrivateKey.from_int(1 << bits).public_key.public_key
    row = [step, step]
    while len(row) < 256:
        row.append(_sum([row[-1], step]))
    return row
