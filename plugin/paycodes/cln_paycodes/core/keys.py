"""Keys of a paycode: from the node's secret to one preimage per invoice.

    S            = makesecret("cln-paycodes/1")                   32 bytes, from the node's hsm_secret
    root_sk(r)   = HMAC-SHA256(S, "root" || u64be(r))             a secp256k1 scalar
    paycode_id   = SHA256(root_pk)                                public, 64 hex characters
    t(i)         = HMAC-SHA256(root_pk, u64be(i))                 first index is 1
    child_pk(i)  = root_pk + t(i)*G
    preimage     = SHA256(child_pk(i)), payment_hash = SHA256(preimage)

Byte for byte the scheme of Fedimint's recurringd. There the root public key may be public, because spending needs the
child's private key; on a plain node the preimage alone is the claim, so whoever knows `root_pk` can compute
every preimage of the code. It is therefore a secret: `RootKey` never shows it in a repr, an error or a log.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from coincurve import PrivateKey, PublicKey

from .generator import CURVE_ORDER, Augend

#: What `makesecret` is asked for to get the seed of all codes of this node.
SEED_LABEL = "cln-paycodes/1"

#: The first index that is ever handed out.
FIRST_INDEX = 1

_MAX_U64 = 2**64 - 1


class ScalarOutOfRange(ValueError):
    """The derived scalar is 0 or not below the curve order (chance 2^-127): the number is skipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InvoiceKeys:
    """What one invoice of a code is made of; `preimage` is a secret until the node says paid."""

    index: int
    preimage: bytes
    payment_hash: bytes

    def __repr__(self) -> str:
        return f"InvoiceKeys(index={self.index}, payment_hash={self.payment_hash.hex()})"


class RootKey:
    """The root public key of one paycode, able to derive its invoices' keys."""

    __slots__ = ("_compressed", "_point", "paycode_id")

    def __init__(self, compressed: bytes) -> None:
        """`compressed` is 33 bytes; ValueError (without the bytes in it) when it is not a point."""
        if len(compressed) != 33:
            raise ValueError("a root key is a compressed public key of 33 bytes")
        try:
            self._point = Augend(PublicKey(compressed))
        except ValueError:
            raise ValueError("a root key is a compressed public key on secp256k1") from None
        self._compressed = compressed
        self.paycode_id = paycode_id_of(compressed)

    @classmethod
    def derive(cls, seed: bytes, number: int) -> RootKey:
        """The root key of paycode `number` (0, 1, 2 ...); raises ScalarOutOfRange for a number to skip."""
        return cls(PrivateKey(root_secret(seed, number)).public_key.format(compressed=True))

    @property
    def secret_bytes(self) -> bytes:
        """The 33 bytes, for sealing into the node's datastore only."""
        return self._compressed

    def invoice(self, index: int) -> InvoiceKeys:
        """Preimage and payment hash of invoice `index` (0 to 2^64-1)."""
        (preimage,) = self._preimages([index])
        return InvoiceKeys(index=index, preimage=preimage, payment_hash=hashlib.sha256(preimage).digest())

    def payment_hash(self, index: int) -> str:
        """Of invoice `index`, in hex."""
        return self.payment_hashes([index])[0]

    def payment_hashes(self, indexes: Iterable[int]) -> list[str]:
        """Of many invoices, in hex."""
        return [hashlib.sha256(preimage).hexdigest() for preimage in self._preimages(indexes)]

    def _preimages(self, indexes: Iterable[int]) -> list[bytes]:
        children = self._point.plus(tweak(self._compressed, index) for index in indexes)
        return [hashlib.sha256(child).digest() for child in children]

    def __repr__(self) -> str:
        return f"RootKey({self.paycode_id})"


def payment_secret_of(preimage: bytes) -> bytes:
    """The 32-byte payment secret that the node checks for (lightningd v26.06, `invoice_secret` in invoice.c)."""
    return hashlib.sha256(bytes([preimage[0] ^ 1]) + preimage[1:]).digest()


def root_secret(seed: bytes, number: int) -> bytes:
    """The 32-byte root private key of paycode `number` under the node's seed."""
    scalar = hmac.digest(seed, b"root" + u64be(number), "sha256")
    if not 0 < int.from_bytes(scalar, "big") < CURVE_ORDER:
        raise ScalarOutOfRange(f"paycode number {number} has no key: it is skipped")
    return scalar


def tweak(compressed_root: bytes, index: int) -> bytes:
    """The 32-byte tweak of invoice `index` under a compressed root public key."""
    return hmac.digest(compressed_root, u64be(index), "sha256")


def paycode_id_of(compressed_root: bytes) -> str:
    """64 hex characters."""
    return hashlib.sha256(compressed_root).hexdigest()


def u64be(value: int) -> bytes:
    """8 bytes, big-endian; ValueError outside 0 to 2^64-1."""
    if not 0 <= value <= _MAX_U64:
        raise ValueError(f"{value} does not fit in an unsigned 64-bit integer")
    return value.to_bytes(8, "big")
