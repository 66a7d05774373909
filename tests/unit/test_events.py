"""Events: an id that never changes, and the body that receivers get."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime

import pytest
from cln_paycodes.core.events import TEST_TYPE, EventType, event_id, wire_body
from hypothesis import given
from hypothesis import strategies as st

NODE_ID = "0266e4598d1d3c415f572a8488830b60f7e744ed9235eb0b1ba93283b315c03518"
PAYMENT_HASH = "e704e1f5dcde1235f84ba7258b9f5a892ff09f3eb66cc8d3809a2277589a8955"

# From `printf %s "$NODE_ID/invoice.paid/$PAYMENT_HASH" | sha256sum`.
PAID_ID = "evt_7049aef1e4ad080daf8d47718e847e88"


@pytest.mark.parametrize("event_type", ["invoice.paid", EventType.INVOICE_PAID])
def test_id_is_the_hash_of_node_type_and_subject(event_type: str) -> None:
    """The id is what sha256sum says, whether the type comes as text or as a constant."""
    assert event_id(NODE_ID, event_type, PAYMENT_HASH) == PAID_ID


def test_id_agrees_with_another_program() -> None:
    """Every type's id is that of coreutils' sha256sum."""
    for event_type in EventType:
        text = f"{NODE_ID}/{event_type}/{PAYMENT_HASH}/1".encode()
        digest = subprocess.run(["sha256sum"], input=text, capture_output=True, check=True).stdout[:32].decode()

        assert event_id(NODE_ID, event_type, f"{PAYMENT_HASH}/1") == f"evt_{digest}"


def test_types_are_those_of_the_contract() -> None:
    """Receivers rely on these names."""
    assert {str(event_type) for event_type in EventType} == {
        "invoice.paid",
        "invoice.expired",
        "hold.accepted",
        "hold.settled",
        "hold.canceled",
        "payment.sent",
        "payment.failed",
        "order.completed",
        "order.failed",
    }
    assert TEST_TYPE not in set(EventType)


def test_body_as_it_goes_over_the_wire() -> None:
    """The body of a webhook, byte for byte: Standard Webhooks' `type`, `timestamp` and `data`, and our two."""
    body = wire_body(
        event_id=PAID_ID,
        event_type=EventType.INVOICE_PAID,
        timestamp=1496314658,
        sequence=7,
        data={"amount_msat": 21000, "comment": "é"},
    )

    assert body == (
        '{"type":"invoice.paid","timestamp":"2017-06-01T10:57:38Z","id":"' + PAID_ID + '","sequence":7,'
        '"data":{"amount_msat":21000,"comment":"é"}}'
    )


@given(
    timestamp=st.integers(0, 2**37),
    sequence=st.none() | st.integers(1, 2**63 - 1),
    data=st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans()),
)
def test_body_reads_back(timestamp: int, sequence: int | None, data: dict[str, object]) -> None:
    """Any JSON reader gets back what was put in, the time in UTC."""
    body = wire_body(event_id="evt_1", event_type="invoice.paid", timestamp=timestamp, sequence=sequence, data=data)

    read = json.loads(body.encode())
    assert (read["type"], read["id"], read["sequence"], read["data"]) == ("invoice.paid", "evt_1", sequence, data)
    assert datetime.fromisoformat(read["timestamp"].replace("Z", "+00:00")).timestamp() == timestamp
