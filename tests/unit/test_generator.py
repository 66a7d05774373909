"""Multiples of the generator from a table, against arithmetic that shares nothing with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import curve
import pytest
from cln_paycodes.core import generator
from cln_paycodes.core.generator import Augend
from coincurve import PrivateKey, PublicKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st

POINT = PrivateKey.from_int(7).public_key


def add_multiple(point: PublicKey, scalar: bytes) -> bytes:
    (total,) = Augend(point).plus([scalar])
    return total


def by_plain_python(point: int, scalar: int) -> bytes:
    return curve.compressed(curve.multiply((point + scalar) % curve.ORDER))


@pytest.mark.parametrize(
    "scalar",
    [0, 1, 7, 255, 256, 1 << 248, 0xFF << 248, curve.ORDER - 1, curve.ORDER, curve.ORDER + 5, 2**256 - 1],
)
def test_every_scalar_of_32_bytes_is_added(scalar: int) -> None:
    """Zero bytes, single bytes, the same point twice, and scalars beyond the order."""
    total = add_multiple(POINT, scalar.to_bytes(32, "big"))

    assert total == by_plain_python(7, scalar)


@settings(max_examples=20)
@given(scalar=st.integers(0, 2**256 - 1))
def test_sum_is_that_of_plain_python(scalar: int) -> None:
    """Whatever the scalar."""
    assert add_multiple(POINT, scalar.to_bytes(32, "big")) == by_plain_python(7, scalar)


@given(secret=st.integers(1, curve.ORDER - 1), scalar=st.integers(0, curve.ORDER - 1))
def test_sum_is_that_of_the_librarys_own_addition(secret: int, scalar: int) -> None:
    """For any point, what libsecp256k1 adds in one step."""
    assume(secret + scalar != curve.ORDER)  # the point at infinity
    point: PublicKey = PrivateKey.from_int(secret).public_key
    tweak = scalar.to_bytes(32, "big")

    assert add_multiple(point, tweak) == point.add(tweak).format()


@given(scalars=st.lists(st.integers(0, curve.ORDER - 8), max_size=5))
def test_each_of_many_is_added_to_the_same_point(scalars: list[int]) -> None:
    """None of them sees what was added before."""
    each = [scalar.to_bytes(32, "big") for scalar in scalars]

    assert Augend(POINT).plus(each) == [POINT.add(scalar).format() for scalar in each]


@pytest.mark.parametrize("secret", [1, 2, int.from_bytes(b"\1" * 32, "big"), curve.ORDER - 1])
def test_point_of_every_key_is_taken(secret: int) -> None:
    """One whose bytes are all 1 is in the examples of BOLT 3, and may be given as a root key."""
    assert add_multiple(PrivateKey.from_int(secret).public_key, bytes(31) + b"\5") == by_plain_python(secret, 5)


def test_point_at_infinity_is_refused() -> None:
    """A point and its negative have no sum that could be a key."""
    with pytest.raises(ValueError, match=r"."):
        add_multiple(POINT, (curve.ORDER - 7).to_bytes(32, "big"))


def test_many_threads_may_be_the_first() -> None:
    """Whoever of them makes the table, all sums are right: lost invoices are issued again many at a time."""
    scalars = [number.to_bytes(32, "big") for number in range(1 << 240, (1 << 240) + 64)]
    generator._table.cache_clear()
    with ThreadPoolExecutor(16) as pool:
        sums = list(pool.map(lambda scalar: add_multiple(POINT, scalar), scalars))

    assert sums == [POINT.add(scalar).format() for scalar in scalars]
