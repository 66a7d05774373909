"""Onion payloads: the TLV stream that the final hop of a payment reads (BOLT 4)."""

from __future__ import annotations

_AMT_TO_FORWARD = 2
_OUTGOING_CLTV = 4
_PAYMENT_DATA = 8


class BadPayload(ValueError):
    """Not a TLV stream with payment data."""


def _bigsize(number: int) -> bytes:
    if number < 0xFD:
        return bytes([number])
    return b"\xfd" + number.to_bytes(2, "big")


def _truncated(number: int) -> bytes:
    """BOLT 1's tu32 and tu64: big-endian without leading zero bytes."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def final_payload(amount_msat: int, cltv_expiry: int, payment_secret: str, total_msat: int) -> bytes:
    """What a payer puts into the onion for the last hop, with its length in front."""
    fields = (
        (_AMT_TO_FORWARD, _truncated(amount_msat)),
        (_OUTGOING_CLTV, _truncated(cltv_expiry)),
        (_PAYMENT_DATA, bytes.fromhex(payment_secret) + _truncated(total_msat)),
    )
    stream = b"".join(bytes([kind]) + _bigsize(len(value)) + value for kind, value in fields)
    return _bigsize(len(stream)) + stream


def payment_data(stream: bytes) -> tuple[str, int]:
    """The payment secret (hex) and total_msat of a payload without its length; raises BadPayload."""
    position = 0
    while position < len(stream):
        kind, position = _read_bigsize(stream, position)
        length, position = _read_bigsize(stream, position)
        value = stream[position : position + length]
        if len(value) != length:
            break
        if kind == _PAYMENT_DATA and length >= 32:
            return value[:32].hex(), int.from_bytes(value[32:], "big")
        position += length
    raise BadPayload("no payment data")


def _read_bigsize(stream: bytes, position: int) -> tuple[int, int]:
    first = stream[position]
    size = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first, 0)
    if size == 0:
        return first, position + 1
    number = stream[position + 1 : position + 1 + size]
    if len(number) != size:
        raise BadPayload("cut short")
    return int.from_bytes(number, "big"), position + 1 + size
