"""What the plugin reads from a BOLT 11 string."""

from __future__ import annotations

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

#: BOLT 11: the data part begins with a timestamp of 35 bits, five to a character.
_TIMESTAMP_CHARS = 7


def timestamp_of(bolt11: str) -> int:
    """Unix seconds at which the invoice was made; ValueError when it is not a BOLT 11 string."""
    data = bolt11.lower().rpartition("1")[2][:_TIMESTAMP_CHARS]
    if len(data) < _TIMESTAMP_CHARS:
        raise ValueError("not a BOLT 11 invoice")
    value = 0
    for character in data:
        value = value << 5 | _CHARSET.index(character)
    return value
