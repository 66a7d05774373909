"""Definitions as they stand in the node's datastore: JSON with a schema version, what is secret in them sealed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import BadParameter
from .json_text import compact
from .keys import FIRST_INDEX
from .records import Endpoint, EndpointStatus, Paycode
from .terms import Issue, PaycodeStatus, Terms

#: Raise it when a field changes its meaning; readers refuse what is newer than they are.
VERSION = 1


class UnreadableDefinition(ValueError):
    """The record is damaged or of a newer version: it is reported, left alone, and stops nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaycodeDefinition:
    """A paycode without its books."""

    paycode_id: str
    number: int | None
    terms: Terms
    status: PaycodeStatus
    sealed_root: str | None
    reserved_index: int
    listed_from: int
    created_at: int
    updated_at: int


def encode_paycode(paycode: Paycode) -> str:
    terms = paycode.terms
    return _dump(
        number=paycode.number,
        label=terms.label,
        description=terms.description,
        user=terms.user,
        min_msat=terms.min_msat,
        max_msat=terms.max_msat,
        expiry=terms.expiry,
        comment_chars=terms.comment_chars,
        issue=str(terms.issue),
        hold=terms.hold,
        max_pending=terms.max_pending,
        status=str(paycode.status),
        sealed_root=paycode.sealed_root,
        reserved_index=paycode.reserved_index,
        listed_from=paycode.listed_from,
        created_at=paycode.created_at,
        updated_at=paycode.updated_at,
    )


def decode_paycode(paycode_id: str, text: str) -> PaycodeDefinition:
    fields = _load(paycode_id, text)
    try:
        return PaycodeDefinition(
            paycode_id=paycode_id,
            number=fields["number"],
            terms=Terms(
                label=fields["label"],
                description=fields["description"],
                user=fields["user"],
                min_msat=fields["min_msat"],
                max_msat=fields["max_msat"],
                expiry=fields["expiry"],
                comment_chars=fields["comment_chars"],
                issue=Issue(fields["issue"]),
                hold=fields["hold"],
                max_pending=fields["max_pending"],
            ),
            status=PaycodeStatus(fields["status"]),
            sealed_root=fields["sealed_root"],
            reserved_index=fields["reserved_index"],
            listed_from=fields.get("listed_from", FIRST_INDEX),
            created_at=fields["created_at"],
            updated_at=fields["updated_at"],
        )
    except (KeyError, TypeError, ValueError, BadParameter) as e:
        raise UnreadableDefinition(f"the definition of paycode {paycode_id} is damaged: {e!r}") from e


def encode_endpoint(endpoint: Endpoint) -> str:
    return _dump(
        url=endpoint.url,
        events=endpoint.events,
        paycode=endpoint.paycode_id,
        sealed_secrets=endpoint.sealed_secrets,
        sealed_credentials=endpoint.sealed_credentials,
        old_secrets_until=endpoint.old_secrets_until,
        status=str(endpoint.status),
        since=endpoint.since,
        created_at=endpoint.created_at,
        updated_at=endpoint.updated_at,
    )


def decode_endpoint(endpoint_id: str, text: str) -> Endpoint:
    fields = _load(endpoint_id, text)
    try:
        return Endpoint(
            endpoint_id=endpoint_id,
            url=fields["url"],
            events=None if fields["events"] is None else tuple(fields["events"]),
            paycode_id=fields["paycode"],
            sealed_secrets=tuple(fields["sealed_secrets"]),
            status=EndpointStatus(fields["status"]),
            since=fields["since"],
            mirrored=True,
            failing_since=None,
            last_error=None,
            last_success_at=None,
            created_at=fields["created_at"],
            updated_at=fields["updated_at"],
            sealed_credentials=fields.get("sealed_credentials"),
            old_secrets_until=fields.get("old_secrets_until", 0),
        )
    except (KeyError, TypeError, ValueError) as e:
        raise UnreadableDefinition(f"the definition of endpoint {endpoint_id} is damaged: {e!r}") from e


def _dump(**fields: Any) -> str:
    return compact({"v": VERSION, **fields})


def _load(name: str, text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
        version = fields["v"]
        json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise UnreadableDefinition(f"the definition of {name} is not ours or damaged") from e
    if not _is_number(version):
        raise UnreadableDefinition(f"the definition of {name} is not ours or damaged: its version is no number")
    if version > VERSION:
        raise UnreadableDefinition(
            f"the definition of {name} has version {version}, this plugin reads up to {VERSION}: upgrade it"
        )
    assert isinstance(fields, dict)
    for field, is_valid in _VALID.items():
        if field in fields and not is_valid(fields[field]):
            raise UnreadableDefinition(f"the definition of {name} is damaged: its {field} is wrong")
    return fields


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """A whole number that SQLite holds, and the one after it."""
    return type(value) is int and 0 <= value <= 1 << 62


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _or_none(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


#: What a field holds, wherever it stands; what its value means is judged by the record that it becomes.
_VALID: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("label", "description", "issue", "status", "url"), _is_text),
    **dict.fromkeys(("user", "sealed_root", "paycode", "sealed_credentials"), _or_none(_is_text)),
    **dict.fromkeys(("min_msat", "expiry", "comment_chars", "reserved_index", "listed_from"), _is_number),
    **dict.fromkeys(("since", "created_at", "updated_at", "old_secrets_until"), _is_number),
    **dict.fromkeys(("number", "max_msat", "max_pending"), _or_none(_is_number)),
    "hold": lambda value: isinstance(value, bool),
    "sealed_secrets": _are_texts,
    "events": _or_none(_are_texts),
}
