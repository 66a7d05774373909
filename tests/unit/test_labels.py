"""The node's invoice labels: alone enough to rebuild a row, and nobody else's are taken for ours."""

from __future__ import annotations

import pytest
from cln_paycodes.core.labels import Slot, parse_label
from hypothesis import given
from hypothesis import strategies as st

PAYCODE_ID = "5528f39f853b4967b6f873e2d3a44f6f4338e037358c2deebe5a48f61c9a5d5e"
#: The largest integer of SQLite.
SQLITE_MOST = 2**63 - 1


@given(key=st.binary(min_size=32, max_size=32), index=st.integers(1, 10**18 - 1))
def test_label_leads_back_to_its_slot(key: bytes, index: int) -> None:
    """A slot's label names the slot again, within what CLN takes as a label."""
    slot = Slot(key.hex(), index)

    assert slot.label == f"paycode/{key.hex()}/{index}"
    assert parse_label(slot.label) == slot
    assert len(slot.label) <= 128


@pytest.mark.parametrize(
    "label",
    [
        "",
        "coffee",
        f"paycode/{PAYCODE_ID}",
        f"paycode/{PAYCODE_ID}/",
        f"paycode/{PAYCODE_ID}/0",
        f"paycode/{PAYCODE_ID}/01",
        f"paycode/{PAYCODE_ID}/-1",
        f"paycode/{PAYCODE_ID}/+1",
        f"paycode/{PAYCODE_ID}/1 ",
        f"paycode/{PAYCODE_ID}/1\n",
        f" paycode/{PAYCODE_ID}/1",
        f"paycode/{PAYCODE_ID}/1/2",
        f"paycode/{PAYCODE_ID}/1_0",
        f"paycode/{PAYCODE_ID}/\u0661",
        f"paycode/{PAYCODE_ID.upper()}/1",
        f"paycode/{PAYCODE_ID[:-1]}/1",
        f"paycode/{PAYCODE_ID}0/1",
        f"Paycode/{PAYCODE_ID}/1",
        f"paycode//{PAYCODE_ID}/1",
    ],
)
def test_foreign_label_is_not_ours(label: str) -> None:
    """An invoice that something else made at the node is left alone."""
    assert parse_label(label) is None


@given(label=st.text() | st.from_regex(r"paycode/[0-9a-f]{64}/[1-9][0-9]{17,19}", fullmatch=True))
def test_whatever_the_label_its_slot_fits_in_the_books(label: str) -> None:
    """A label that counts as ours names an index that can be stored, and so can the next one."""
    slot = parse_label(label)

    assert slot is None or (slot.label == label and 1 <= slot.index < SQLITE_MOST)
