"""Bech32 (BIP 173) for strings as long as invoices, a whole string at a time.

A word is five bits. Here a string of words is either an integer, five bits to a word, first word highest (`packed`), or
bytes, one to a word (`words`). A loop over words is slow in Python, integers of thousands of bits are not:

- `unpack` moves words apart by halves: the first half of all, then that of each half, and so on.
- The checksum is linear over the bits (BIP 173, "Checksum design"): each of its 30 bits is the parity of some of the
  string's bits, so 30 masks and a count of bits each give it. The masks are made once, from the polynomial.
"""

from __future__ import annotations

from functools import cache

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

_CHECKSUM_WORDS = 6
_CHECKSUM_BITS = 5 * _CHECKSUM_WORDS

#: BIP 173: what the five bits that leave the checksum's top are replaced by.
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)

#: From a word to its character, and from a character of the human readable part to its high and to its low bits.
_CHARACTERS = CHARSET.encode() + bytes(224)
_HIGH_BITS = bytes(code >> 5 for code in range(256))
_LOW_BITS = bytes(code & 31 for code in range(256))


def encode(hrp: str, packed: int, words: int) -> str:
    """The bech32 string of `words` words under a human readable part in lower case; of any length."""
    data = unpack(packed, words)
    prefix = hrp.encode("ascii")
    # BIP 173: the high bits of the prefix, a zero and its low bits count too; the 1 is what the checksum starts from.
    covered = b"\1" + prefix.translate(_HIGH_BITS) + b"\0" + prefix.translate(_LOW_BITS) + data
    checksum = unpack(_checksum(covered), _CHECKSUM_WORDS)
    return f"{hrp}1{(data + checksum).translate(_CHARACTERS).decode('ascii')}"


def pack(data: bytes) -> tuple[int, int]:
    """Bytes as words, with zero bits at the end to a whole one: the packed words, and how many they are."""
    words = -(-8 * len(data) // 5)
    return int.from_bytes(data, "big") << 5 * words - 8 * len(data), words


def unpack(packed: int, words: int) -> bytes:
    """One byte for each of the words."""
    for lower, upper, distance in _unpacking(_power_of_two(words)):
        packed = packed & lower | (packed & upper) << distance
    return packed.to_bytes(words, "big")


def _checksum(words: bytes) -> int:
    """30 bits."""
    bits = int.from_bytes(words, "big")
    checksum = 0
    for mask in _parity_masks(_power_of_two(len(words))):
        checksum = checksum << 1 | (bits & mask).bit_count() & 1
    return checksum ^ 1


def _power_of_two(words: int) -> int:
    """Masks are for a power of two, so that few sets of them are made."""
    return 1 << max(words - 1, 1).bit_length()


@cache
def _unpacking(words: int) -> tuple[tuple[int, int, int], ...]:
    """For each halving: which bits stay, which move up, how far."""
    moves = []
    half = words // 2
    while half:
        lane = (1 << 5 * half) - 1
        lower = sum(lane << 16 * half * place for place in range(words // half // 2))
        moves.append((lower, lower << 5 * half, 3 * half))
        half //= 2
    return tuple(moves)


@cache
def _parity_masks(words: int) -> tuple[int, ...]:
    """For each bit of the checksum, highest first: which bits of `words` bytes, one to a word, it is the parity of."""
    columns = []
    units = [_shifted(1 << bit, _CHECKSUM_WORDS) for bit in range(5)]
    for _ in range(words):
        columns += [*units, 0, 0, 0]
        units = [_shifted(unit) for unit in units]
    # One row of 30 digits for each bit of the string, read down its columns.
    digits = "".join(f"{column:0{_CHECKSUM_BITS}b}" for column in reversed(columns))
    return tuple(int(digits[bit::_CHECKSUM_BITS], 2) for bit in range(_CHECKSUM_BITS))


def _shifted(checksum: int, words: int = 1) -> int:
    """What a checksum becomes by as many zero words (BIP 173, `bech32_polymod`)."""
    for _ in range(words):
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                checksum ^= generator
    return checksum
