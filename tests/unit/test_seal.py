"""Sealed secrets: they open for this node and this record alone, and show nothing."""

from __future__ import annotations

import base64

import pytest
from cln_paycodes.core.seal import NONCE_BYTES, Seal, SealBroken
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

KEY = bytes(range(32))
NONCE = b"n" * NONCE_BYTES
SECRET = b"\x03" + b"the root key of some code......."

keys = st.binary(min_size=32, max_size=32)
nonces = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)


@given(key=keys, nonce=nonces, secret=st.binary(max_size=100), record_id=st.text(max_size=70))
def test_sealed_secret_opens_for_its_record(key: bytes, nonce: bytes, secret: bytes, record_id: str) -> None:
    """What was sealed comes back whole."""
    sealed = Seal(key).close(secret, record_id=record_id, nonce=nonce)

    assert sealed.isascii()
    assert Seal(key).open(sealed, record_id=record_id) == secret


def test_seal_is_the_published_cipher() -> None:
    """Another program opens it with ChaCha20-Poly1305 (RFC 8439), the record's id as associated data."""
    raw = base64.b64decode(Seal(KEY).close(SECRET, record_id="code", nonce=NONCE))

    assert raw[:NONCE_BYTES] == NONCE
    assert ChaCha20Poly1305(KEY).decrypt(NONCE, raw[NONCE_BYTES:], b"code") == SECRET


def test_seal_does_not_open_for_another_record() -> None:
    """A sealed value that was copied to another record is refused."""
    sealed = Seal(KEY).close(SECRET, record_id="code", nonce=NONCE)

    with pytest.raises(SealBroken, match="of other"):
        Seal(KEY).open(sealed, record_id="other")


def test_seal_does_not_open_with_another_nodes_key() -> None:
    """The datastore of one node is of no use to another."""
    sealed = Seal(KEY).close(SECRET, record_id="code", nonce=NONCE)

    with pytest.raises(SealBroken):
        Seal(bytes(32)).open(sealed, record_id="code")


@given(place=st.integers(0, NONCE_BYTES + len(SECRET) + 15), flip=st.integers(1, 255))
def test_one_changed_byte_breaks_the_seal(place: int, flip: int) -> None:
    """No byte of a sealed value can be changed unseen."""
    raw = bytearray(base64.b64decode(Seal(KEY).close(SECRET, record_id="code", nonce=NONCE)))
    raw[place] ^= flip

    with pytest.raises(SealBroken):
        Seal(KEY).open(base64.b64encode(raw).decode(), record_id="code")


@given(sealed=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode()))
def test_whatever_is_not_sealed_is_refused_as_such(sealed: str) -> None:
    """Text of any kind in the place of a sealed value is SealBroken, nothing else."""
    with pytest.raises(SealBroken):
        Seal(KEY).open(sealed, record_id="code")


def test_error_holds_neither_key_nor_secret() -> None:
    """The error names the record and nothing more."""
    sealed = Seal(KEY).close(SECRET, record_id="code", nonce=NONCE)

    with pytest.raises(SealBroken) as broken:
        Seal(KEY).open(sealed, record_id="other")

    assert str(broken.value) == "the sealed secret of other does not open with this node's key"
