"""Keys of the node: everything comes from 32 bytes in the file ``hsm_secret``, as in lightningd's hsmd."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from coincurve import PrivateKey


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256 and 32 bytes of output (one block)."""
    extracted = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


class Keys:
    """The node's identity and derived secrets."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        # hsmd/libhsmd.c node_key(): the salt is a 32-bit counter that starts at 0.
        self._node = PrivateKey(_hkdf(secret, bytes(4), b"nodeid"))
        self._derived = _hkdf(secret, b"", b"derived secrets")

    @property
    def node_id(self) -> str:
        return self._node.public_key.format(compressed=True).hex()

    @property
    def node_secret(self) -> str:
        """The node's private key, in hex, to sign invoices with."""
        return self._node.secret.hex()

    def make_secret(self, info: bytes) -> bytes:
        """``makesecret``: 32 bytes, the same for the same ``info``."""
        return _hkdf(self._derived, b"", info)

    def payer_secret(self) -> str:
        """The private key of the far node that devnode plays when it pays and is paid."""
        return _hkdf(self._secret, b"", b"devnode payer").hex()


def payment_secret(preimage: bytes) -> str:
    """lightningd's ``invoice_secret``: SHA256 of the preimage with its first byte's lowest bit flipped."""
    return hashlib.sha256(bytes([preimage[0] ^ 1]) + preimage[1:]).hexdigest()


def payment_hash(preimage: bytes) -> str:
    return hashlib.sha256(preimage).hexdigest()


def load(path: Path) -> Keys:
    """The keys in ``path``, which is filled with fresh randomness if missing."""
    if not path.exists():
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
        try:
            os.write(descriptor, os.urandom(32))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path)
    secret = path.read_bytes()
    if len(secret) != 32:
        raise ValueError(f"{path} must hold 32 bytes")
    return Keys(secret)


def public_key(secret: str) -> str:
    """The compressed public key of a private key, both in hex."""
    key: bytes = PrivateKey.from_hex(secret).public_key.format(compressed=True)
    return key.hex()
