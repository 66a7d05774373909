"""Secrets that must live where a readonly rune can read: sealed, bound to the record they belong to.

ChaCha20-Poly1305 under a key from `makesecret("cln-paycodes/seal/1")`; the record's own id is authenticated with it,
so that a sealed value copied to another record does not open.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

#: What `makesecret` is asked for to get the 32-byte sealing key.
SEAL_LABEL = "cln-paycodes/seal/1"

NONCE_BYTES = 12


class SealBroken(ValueError):
    """The sealed value was made by another node or for another record, or was changed."""


class Seal:
    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def close(self, secret: bytes, *, record_id: str, nonce: bytes) -> str:
        """Base64 of nonce and ciphertext; `nonce` is 12 fresh random bytes."""
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, secret, record_id.encode())).decode()

    def open(self, sealed: str, *, record_id: str) -> bytes:
        """The secret; SealBroken when it is not ours."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], record_id.encode())
        except (InvalidTag, ValueError):
            raise SealBroken(f"the sealed secret of {record_id} does not open with this node's key") from None
