"""What the plugin reads from a BOLT 11 string."""

from __future__ import annotations

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

#: From a character's ASCII code to its five bits; 32 for one that is none.
_WORDS = bytes(_CHARSET.find(chr(code)) & 0x1F if chr(code) in _CHARSET else 32 for code in range(256))

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


def commits_to_hash(bolt11: str) -> bool:
    """The invoice has the hash of its description (tag `h`) in place of the text; ValueError when it cannot be read."""
    words = bolt11.lower().rpartition("1")[2].encode().translate(_WORDS)
    if 32 in words:
        raise ValueError("not a BOLT 11 invoice")
    # Behind the tagged fields come a signature of 104 words and a checksum of six.
    at, end = _TIMESTAMP_CHARS, len(words) - 110
    while at + 3 <= end:
        tag, length = words[at], words[at + 1] << 5 | words[at + 2]
        if _CHARSET[tag] == "h":
            return True
        at += 3 + length
    return False
