"""Adding multiples of secp256k1's generator to a point, as sums of points from a table.

A rebuilt sidecar derives one key for each invoice that the node ever had. A scalar of 32 bytes is a sum of one table
entry per byte: 9 us, where libsecp256k1's own addition of a tweak, which doubles its way through the scalar, takes 21.
The table is one block of half a megabyte, which a core keeps at hand beside its other work, and the entries are found
by their addresses: as Python objects they would be three times as large, and twice as slow.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from coincurve import PrivateKey, PublicKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from coincurve.flags import EC_COMPRESSED

#: The order of secp256k1.
CURVE_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141

SCALAR_BYTES = 32
COMPRESSED_BYTES = 33

_CONTEXT = GLOBAL_CONTEXT.ctx

_BYTE_VALUES = 256
_POINT_BYTES = ffi.sizeof("secp256k1_pubkey")
_POINTER_BYTES = ffi.sizeof("void *")

#: Where in a pointer's width its lowest byte is.
_LOWEST = 0 if sys.byteorder == "little" else _POINTER_BYTES - 1

#: What each entry is too much by, so that none is the point at infinity, nor is a point less all of them: it is a
#: multiple that nobody has as a key.
_EXCESS = int.from_bytes(hashlib.sha256(b"cln-paycodes/generator").digest(), "big")


class Augend:
    """A point that multiples of the generator are added to."""

    __slots__ = ("_less_excess",)

    def __init__(self, point: PublicKey) -> None:
        less = -SCALAR_BYTES * _EXCESS % CURVE_ORDER
        self._less_excess = point.add(less.to_bytes(SCALAR_BYTES, "big")).public_key

    def plus(self, scalars: Iterable[bytes]) -> list[bytes]:
        """`point + scalar*G` for each scalar of 32 bytes, compressed; ValueError when that is the point at infinity."""
        table = _table()
        total, terms = ffi.new("secp256k1_pubkey *"), ffi.new("secp256k1_pubkey *[]", SCALAR_BYTES + 1)
        compressed, length = ffi.new("unsigned char[]", COMPRESSED_BYTES), ffi.new("size_t *", COMPRESSED_BYTES)
        terms[SCALAR_BYTES] = self._less_excess
        pointers, total_bytes = ffi.buffer(terms), ffi.buffer(compressed)
        from_table = SCALAR_BYTES * _POINTER_BYTES
        apart = bytearray(from_table)
        sums = []
        for scalar in scalars:
            # All the addresses at once, in an integer with a pointer's width for each byte of the scalar.
            apart[_LOWEST::_POINTER_BYTES] = scalar
            addresses = table.rows + int.from_bytes(apart, sys.byteorder) * _POINT_BYTES
            pointers[:from_table] = addresses.to_bytes(from_table, sys.byteorder)
            _add(total, terms)
            lib.secp256k1_ec_pubkey_serialize(_CONTEXT, compressed, length, total, EC_COMPRESSED)
            sums.append(total_bytes[:])
        return sums


def _add(total: Any, points: Any) -> None:
    if not lib.secp256k1_ec_pubkey_combine(_CONTEXT, total, points, len(points)):
        raise ValueError("the sum is the point at infinity")


class _Table(NamedTuple):
    #: by place and value of a byte, the multiple of the generator by that value at that place, and the excess
    points: Any
    #: the address of each place's row, each in a pointer's width
    rows: int


@cache
def _table() -> _Table:
    """Made once, in 20 ms."""
    points = ffi.new("secp256k1_pubkey[]", SCALAR_BYTES * _BYTE_VALUES)
    excess = PrivateKey.from_int(_EXCESS).public_key.public_key
    rows = []
    for place in range(SCALAR_BYTES):
        row = points + place * _BYTE_VALUES
        step = PrivateKey.from_int(1 << 8 * (SCALAR_BYTES - 1 - place)).public_key.public_key
        row[0] = excess[0]
        for value in range(1, _BYTE_VALUES):
            _add(row + value, [row + value - 1, step])
        rows.append(int(ffi.cast("uintptr_t", row)).to_bytes(_POINTER_BYTES, sys.byteorder))
    return _Table(points, int.from_bytes(b"".join(rows), sys.byteorder))
