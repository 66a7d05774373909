"""Keys: byte for byte the scheme that Fedimint's recurringd uses, and never shown."""

from __future__ import annotations

import hashlib
import hmac
import traceback

import curve
import pytest
from cln_paycodes.core.keys import (
    CURVE_ORDER,
    RootKey,
    ScalarOutOfRange,
    paycode_id_of,
    payment_secret_of,
    root_secret,
    tweak,
    u64be,
)
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

# Two keys of Fedimint's scheme, checked four independent ways: secret, root, id, and per index child, preimage, hash.
KEY_A = (
    "4b0d8f10ed6294093897f97c30fdc78951ec947d850c04c9803a4ff3b5859287",
    "03cdcbc2f655e1ef105b9f9401e0248a1db00f2795d9d1e63cb1d1b2893de59ce1",
    "5528f39f853b4967b6f873e2d3a44f6f4338e037358c2deebe5a48f61c9a5d5e",
)
KEY_B = (
    f"{1:064x}",
    "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "0f715baf5d4c2ed329785cef29e562f73488c8a2bb9dbc5700b361d54b9b0554",
)
VECTORS = [
    (
        KEY_A,
        0,
        "02fd5966ae440bba58aec300a7ebbc505ae7693154c19075d5cc54a62a8d34bbb1",
        "7467fc1f9c22f7578173fe468104f5621882e7fbbcd722e2c5af1fd1a11d7f68",
        "882c4ddeb4677997982e742af362f2fda2f6dc014cf2be9cd0d8ff6ddab142f0",
    ),
    (
        KEY_A,
        1,
        "033c756b87db77e86180b936bad852352056117c0e59a5e25d5dbd20ef0acbae34",
        "89efb5fd8a15bfe616f0372ae9ce98db64e1c8c5a39b01e0377d9e55652a1c7b",
        "e704e1f5dcde1235f84ba7258b9f5a892ff09f3eb66cc8d3809a2277589a8955",
    ),
    (
        KEY_A,
        2**32,
        "027fa2ea4f5dd8537467e0c4cd20a266b93a9d440ded0cc333f5c3ba96c2b7448d",
        "d88de8e90c8f23e6b003a707c2d6cdefa731b09e75b6796f8c91d7e10f6d6c01",
        "33a18d0cc72fd48bb9da1e0fe389ac5b2f90e74e8711900f32b500d43f5c891f",
    ),
    (
        KEY_A,
        2**63,
        "02352ffe52c68574967d52696b840f97b624e67a48398bdbfa4f9acf62c0dfbd65",
        "1a3c22bae1882f1ed9b5aacd7fa3cffad454331d9c4c4c6344c04c879d845207",
        "6ab39ff748c31664f2b805847ed5cd85ee2bacbf295dff6ae8beb7da8f4f61a2",
    ),
    (
        KEY_B,
        1,
        "02857f6bba4480bd60aa29fa5c0d377f5981f1e375916713ae9dd4cefda9194651",
        "157f6f46060675764e20ebf57367a93acb133b91aac3f0f7e0ed1d3578c61473",
        "48bc6af2b733d0452115a85c59075cd4ef3861521245eb66d242f4328a28af34",
    ),
    (
        KEY_B,
        2**63,
        "02d480e30cb8d1f06aba152f94bd135140daa1831956a1caa75a3eb5aed27726ff",
        "9a0d216a14c73cf0dcd643da09e056c1bc6d5cf2891ef0d85b1a784e4eab061a",
        "327c1161126f8512965f2bbf2a81fa9058a4e11fff8be454cc966e617d458560",
    ),
]

scalars = st.integers(1, CURVE_ORDER - 1)
indexes = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(("key", "index", "child", "preimage", "payment_hash"), VECTORS)
def test_invoice_keys_are_those_of_the_vectors(
    key: tuple[str, str, str], index: int, child: str, preimage: str, payment_hash: str
) -> None:
    """An invoice's preimage and hash are Fedimint's, for a code of the same root key."""
    _, root, paycode_id = key

    keys = RootKey(bytes.fromhex(root)).invoice(index)

    assert paycode_id_of(bytes.fromhex(root)) == paycode_id
    assert keys.index == index
    assert keys.preimage.hex() == preimage == hashlib.sha256(bytes.fromhex(child)).hexdigest()
    assert keys.payment_hash.hex() == payment_hash


@pytest.mark.parametrize(("key", "index", "child"), [vector[:3] for vector in VECTORS])
def test_tweak_leads_to_the_child_key_of_the_vectors(key: tuple[str, str, str], index: int, child: str) -> None:
    """The tweak, added to the root's private key, is the private key of the vectors' child."""
    secret, root, _ = key

    t = int.from_bytes(tweak(bytes.fromhex(root), index), "big")

    assert curve.compressed(curve.multiply(int(secret, 16))).hex() == root
    assert curve.compressed(curve.multiply((int(secret, 16) + t) % curve.ORDER)).hex() == child


@given(secret=scalars, index=indexes)
def test_public_tweak_equals_private_tweak(secret: int, index: int) -> None:
    """What the root's public key derives is what its private key derives."""
    private = PrivateKey.from_int(secret)
    root = private.public_key.format(compressed=True)

    child = private.add(tweak(root, index)).public_key.format(compressed=True)

    assert RootKey(root).invoice(index).preimage == hashlib.sha256(child).digest()


@settings(max_examples=15)
@given(secret=scalars, index=indexes)
def test_ids_and_hashes_agree_with_plain_python(secret: int, index: int) -> None:
    """Id, preimage and hash are those of a computation that shares no code with the plugin's library."""
    point = curve.multiply(secret)
    root = curve.compressed(point)
    t = int.from_bytes(hmac.new(root, index.to_bytes(8, "big"), hashlib.sha256).digest(), "big")
    preimage = hashlib.sha256(curve.compressed(curve.add(point, curve.multiply(t % curve.ORDER)))).digest()

    key = RootKey(root)

    assert key.paycode_id == hashlib.sha256(root).hexdigest()
    assert key.invoice(index).preimage == preimage
    assert key.invoice(index).payment_hash == hashlib.sha256(preimage).digest()


@given(seed=st.binary(min_size=32, max_size=32), number=indexes)
def test_root_key_of_a_number_follows_from_the_seed(seed: bytes, number: int) -> None:
    """The same seed and number always give the same code."""
    scalar = hmac.new(seed, b"root" + number.to_bytes(8, "big"), hashlib.sha256).digest()

    derived = RootKey.derive(seed, number)

    assert root_secret(seed, number) == scalar
    assert derived.secret_bytes == PrivateKey(scalar).public_key.format(compressed=True)
    assert derived.paycode_id == hashlib.sha256(derived.secret_bytes).hexdigest()


@pytest.mark.parametrize("scalar", [0, CURVE_ORDER, 2**256 - 1])
def test_scalar_out_of_range_is_skipped(monkeypatch: pytest.MonkeyPatch, scalar: int) -> None:
    """A number whose scalar is no private key has no code; no seed is known that leads there."""
    monkeypatch.setattr(hmac, "digest", lambda *_: scalar.to_bytes(32, "big"))

    with pytest.raises(ScalarOutOfRange, match="number 7"):
        RootKey.derive(bytes(32), 7)


@pytest.mark.parametrize("scalar", [1, CURVE_ORDER - 1])
def test_scalar_at_the_ends_of_the_range_is_a_key(monkeypatch: pytest.MonkeyPatch, scalar: int) -> None:
    """The smallest and the largest private key are not skipped."""
    monkeypatch.setattr(hmac, "digest", lambda *_: scalar.to_bytes(32, "big"))

    assert root_secret(bytes(32), 7) == scalar.to_bytes(32, "big")


@pytest.mark.parametrize(
    "key",
    [
        b"",
        bytes.fromhex(KEY_A[1])[:32],
        bytes.fromhex(KEY_A[1]) + b"\0",
        b"\x04" + bytes.fromhex(KEY_A[1])[1:],
        b"\x00" + bytes.fromhex(KEY_A[1])[1:],
        b"\x02" + b"\xff" * 32,
        b"\x02" + (5).to_bytes(32, "big"),
    ],
)
def test_what_is_no_point_is_refused_without_being_shown(key: bytes) -> None:
    """A wrong root key is refused, and neither the error nor what would be printed of it holds a byte of it."""
    with pytest.raises(ValueError, match="a root key is a compressed public key") as refused:
        RootKey(key)

    shown = "".join(traceback.format_exception(refused.value))
    assert len(key) < 8 or key[1:].hex() not in shown
    assert len(key) < 8 or repr(key) not in shown


def test_root_key_is_in_no_repr() -> None:
    """Neither the root key nor a preimage shows when its holder is printed or logged."""
    root = RootKey(bytes.fromhex(KEY_A[1]))
    keys = root.invoice(1)

    shown = f"{root} {root!r} {[root]} {keys} {keys!r} {[keys]}"

    assert KEY_A[1] not in shown
    assert KEY_A[1][2:] not in shown
    assert repr(root.secret_bytes)[2:-1] not in shown
    assert keys.preimage.hex() not in shown
    assert repr(keys.preimage)[2:-1] not in shown
    assert KEY_A[2] in shown
    assert keys.payment_hash.hex() in shown


def test_payment_secret_is_the_nodes() -> None:
    """The secret that lightningd v26.06 answered for the preimage of index 1 of the vectors' second code."""
    preimage = bytes.fromhex(VECTORS[4][3])

    assert payment_secret_of(preimage).hex() == "55e65d540074124e1ac02470c44f7192bdc084e82d348c82281ab098b87b977f"


@pytest.mark.parametrize("value", [-1, 2**64])
def test_index_beyond_64_bits_is_refused(value: int) -> None:
    """No index wraps around."""
    with pytest.raises(ValueError, match="64-bit"):
        u64be(value)
