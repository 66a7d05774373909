"""Definitions in the node's datastore: they come back whole, or are refused one by one."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from cln_paycodes.core.definitions import (
    VERSION,
    PaycodeDefinition,
    UnreadableDefinition,
    decode_endpoint,
    decode_paycode,
    encode_endpoint,
    encode_paycode,
)
from cln_paycodes.core.records import Endpoint, EndpointStatus, Paycode
from cln_paycodes.core.terms import COMMENT_CHARS_MAX, EXPIRY_MAX_S, PENDING_MAX, Issue, PaycodeStatus, Terms
from cln_paycodes.errors import BadParameter
from hypothesis import assume, given
from hypothesis import strategies as st
from samples import NOW

PAYCODE_ID = "5528f39f853b4967b6f873e2d3a44f6f4338e037358c2deebe5a48f61c9a5d5e"
ENDPOINT_ID = "ep_0123456789abcdef"

times = st.integers(0, 2**40)
amounts = st.integers(1, 2_100_000_000_000_000_000)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    low, high = sorted((draw(amounts), draw(amounts)))
    try:
        return Terms(
            label=draw(st.text(min_size=1, max_size=40)),
            description=draw(st.text(max_size=100)),
            user=draw(st.none() | st.from_regex(r"[a-z0-9\-_.]{1,63}", fullmatch=True)),
            min_msat=low,
            max_msat=draw(st.none() | st.just(high)),
            expiry=draw(st.integers(1, EXPIRY_MAX_S)),
            comment_chars=draw(st.integers(0, COMMENT_CHARS_MAX)),
            issue=draw(st.sampled_from(Issue)),
            hold=draw(st.booleans()),
            max_pending=draw(st.none() | st.integers(1, PENDING_MAX)),
        )
    except BadParameter:
        assume(False)
        raise


paycodes = st.builds(
    Paycode,
    paycode_id=hexes,
    number=st.none() | st.integers(0, 2**31),
    terms=terms(),
    status=st.sampled_from(PaycodeStatus),
    sealed_root=st.none() | st.text("abcdef+/=", max_size=80),
    next_index=st.integers(1, 2**62),
    reserved_index=st.integers(1, 2**62),
    listed_from=st.integers(1, 2**62),
    issued=st.integers(0, 100),
    paid=st.integers(0, 100),
    received_msat=amounts,
    mirrored=st.booleans(),
    created_at=times,
    updated_at=times,
)
endpoints = st.builds(
    Endpoint,
    endpoint_id=st.from_regex(r"ep_[0-9a-f]{16}", fullmatch=True),
    url=st.text(max_size=50),
    events=st.none() | st.lists(st.text(max_size=20), max_size=3).map(tuple),
    paycode_id=st.none() | hexes,
    sealed_secrets=st.lists(st.text(max_size=50), max_size=3).map(tuple),
    status=st.sampled_from(EndpointStatus),
    since=times,
    mirrored=st.just(True),
    failing_since=st.none(),
    last_error=st.none(),
    last_success_at=st.none(),
    created_at=times,
    updated_at=times,
)
SAMPLE_PAYCODE = {
    "v": VERSION,
    "number": 3,
    "label": "coffee",
    "description": "One coffee",
    "user": None,
    "min_msat": 1,
    "max_msat": None,
    "expiry": 3600,
    "comment_chars": 140,
    "issue": "eager",
    "hold": False,
    "max_pending": None,
    "status": "active",
    "sealed_root": None,
    "reserved_index": 101,
    "created_at": NOW,
    "updated_at": NOW,
}
SAMPLE_ENDPOINT = {
    "v": VERSION,
    "url": "https://shop.example/paid",
    "events": ["invoice.paid"],
    "paycode": None,
    "sealed_secrets": ["c2VhbGVk"],
    "status": "active",
    "since": NOW,
    "created_at": NOW,
    "updated_at": NOW,
}


@given(paycode=paycodes)
def test_paycode_comes_back_from_its_definition(paycode: Paycode) -> None:
    """Everything that makes a code, and nothing of its books, is in its definition."""
    decoded = decode_paycode(paycode.paycode_id, encode_paycode(paycode))

    assert decoded == PaycodeDefinition(
        **{name: getattr(paycode, name) for name in PaycodeDefinition.__dataclass_fields__}
    )


@given(endpoint=endpoints)
def test_endpoint_comes_back_from_its_definition(endpoint: Endpoint) -> None:
    """Everything that makes an endpoint is in its definition; its health is not."""
    assert decode_endpoint(endpoint.endpoint_id, encode_endpoint(endpoint)) == endpoint


def test_samples_are_read() -> None:
    """The JSON that the version in use writes, as it stands in a node's datastore."""
    paycode = decode_paycode(PAYCODE_ID, json.dumps(SAMPLE_PAYCODE))
    endpoint = decode_endpoint(ENDPOINT_ID, json.dumps(SAMPLE_ENDPOINT))

    assert (paycode.paycode_id, paycode.number, paycode.reserved_index) == (PAYCODE_ID, 3, 101)
    assert paycode.listed_from == 1
    assert asdict(paycode.terms)["label"] == "coffee"
    assert (endpoint.url, endpoint.events) == ("https://shop.example/paid", ("invoice.paid",))


@given(paycode=paycodes)
def test_definition_is_small_text(paycode: Paycode) -> None:
    """The node takes it as a string: valid UTF-8, far below its limit of a megabyte."""
    assert len(encode_paycode(paycode).encode()) < 10_000


def _decode(kind: str, fields: Any) -> Any:
    text = fields if isinstance(fields, str) else json.dumps(fields)
    return decode_paycode(PAYCODE_ID, text) if kind == "paycode" else decode_endpoint(ENDPOINT_ID, text)


SAMPLES = {"paycode": SAMPLE_PAYCODE, "endpoint": SAMPLE_ENDPOINT}
KINDS = list(SAMPLES)


@pytest.mark.parametrize("kind", KINDS)
def test_newer_version_asks_for_an_upgrade(kind: str) -> None:
    """A definition that a newer plugin wrote is left to it, and the message says what to do."""
    with pytest.raises(UnreadableDefinition, match=f"version {VERSION + 1}, .* up to {VERSION}: upgrade"):
        _decode(kind, {**SAMPLES[kind], "v": VERSION + 1, "new": "field"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", '"text"', "7", "{}", '{"v":"1"}', '{"v":null}', '{"v":[1]}', '{"v":1}', "[" * 100_000],
)
def test_what_is_no_definition_is_refused(kind: str, text: str) -> None:
    """Anything else that stands under our key is refused as unreadable, not with another error."""
    with pytest.raises(UnreadableDefinition):
        _decode(kind, text)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in SAMPLES[kind]])
def test_missing_field_is_refused(kind: str, name: str) -> None:
    """No field of a definition is guessed."""
    fields = {key: value for key, value in SAMPLES[kind].items() if key != name}

    with pytest.raises(UnreadableDefinition):
        _decode(kind, fields)


WRONG: list[Any] = ["\x00wrong", 1.5, True, [7], {"a": 1}, -(2**70), 2**70]
NULLABLE = {"number", "user", "max_msat", "max_pending", "sealed_root", "events", "paycode"}


@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [
        (kind, name, wrong)
        for kind in KINDS
        for name in SAMPLES[kind]
        for wrong in ([] if name in NULLABLE else [None]) + WRONG
        if not (name == "v" and wrong is True)
        and not (name == "hold" and wrong is True)
        and not (name in ("sealed_root", "url", "paycode") and isinstance(wrong, str))
    ],
)
def test_field_of_the_wrong_type_is_refused(kind: str, name: str, wrong: Any) -> None:
    """A damaged field is found when the definition is read, not when it is stored or used."""
    with pytest.raises(UnreadableDefinition):
        _decode(kind, {**SAMPLES[kind], name: wrong})
