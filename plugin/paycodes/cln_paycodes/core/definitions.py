"""Definitions as they stand in the node's datastore: JSON with a schema version, what is secret in them sealed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..errors import BadParameter
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
        )
    except (KeyError, TypeError, ValueError) as e:
        raise UnreadableDefinition(f"the definition of endpoint {endpoint_id} is damaged: {e!r}") from e


def _dump(**fields: Any) -> str:
    return json.dumps({"v": VERSION, **fields}, separators=(",", ":"), ensure_ascii=False)


def _load(name: str, text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
        version = fields["v"]
    except (ValueError, KeyError, TypeError) as e:
        raise UnreadableDefinition(f"the definition of {name} is not ours or damaged") from e
    if version > VERSION:
        raise UnreadableDefinition(
            f"the definition of {name} has version {version}, this plugin reads up to {VERSION}: upgrade it"
        )
    assert isinstance(fields, dict)
    return fields
