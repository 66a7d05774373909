"""Endpoints: made, changed, removed and found; their definitions mirrored in the node's datastore, secrets sealed."""

from __future__ import annotations

import base64
import binascii
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..core.definitions import UnreadableDefinition, decode_endpoint, encode_endpoint
from ..core.events import EventType
from ..core.records import Endpoint, EndpointStatus
from ..core.seal import NONCE_BYTES, Seal, SealBroken
from ..core.urls import EndpointKind, check_endpoint_url, credentials_of, kind_of
from ..errors import BadParameter, NodeRefused, NodeUnknown, UnknownEndpoint
from ..node.port import Node
from ..store import endpoints, outbox
from ..store.store import Sql, Store
from ..store.writer import Transaction
from .jetstream import INSTALL, is_available
from .webhook import check_host

log = logging.getLogger(__name__)

#: Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes.
SECRET_PREFIX = "whsec_"  # noqa: S105 (a prefix, not a secret)
_SECRET_BYTES = range(24, 65)
_NEW_SECRET_BYTES = 32


#: Seconds for which a secret that was replaced goes on signing, unless told otherwise, and at most.
OVERLAP_S = 24 * 3600
OVERLAP_MAX_S = 30 * 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What `webhook-update` changes; None is left as it is."""

    url: str | None = None
    #: an empty tuple: all
    events: tuple[str, ...] | None = None
    #: empty: all codes
    paycode_id: str | None = None
    #: make a new secret; `secret` is one that the operator made
    rotate: bool = False
    secret: str | None = None
    #: seconds for which the older secrets sign too
    overlap_s: int = OVERLAP_S
    pause: bool | None = None


def endpoint_key(endpoint_id: str) -> tuple[str, ...]:
    return ("paycodes", "endpoint", endpoint_id)


class Endpoints:
    def __init__(
        self,
        store: Store,
        node: Node,
        *,
        seal: Seal,
        clock: Callable[[], int],
        randomness: Callable[[int], bytes],
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called after an endpoint was added, changed or removed."""
        self._store = store
        self._node = node
        self._seal = seal
        self._clock = clock
        self._randomness = randomness
        self._changed = changed
        self._lock = threading.Lock()

    def find(self, endpoint_id: str) -> Endpoint:
        endpoint = self._store.read(lambda sql: endpoints.by_id(sql, endpoint_id))
        if endpoint is None:
            raise UnknownEndpoint(f"no endpoint {endpoint_id[:80]!r}: listwebhooks shows those there are")
        return endpoint

    def every(self) -> list[Endpoint]:
        return self._store.read(endpoints.every)

    def add(
        self,
        url: str,
        *,
        events: tuple[str, ...] | None,
        paycode_id: str | None,
        secret: str | None,
        from_sequence: int | None,
    ) -> tuple[Endpoint, str | None]:
        """The new endpoint and its secret, which is shown only here; None for NATS, which knows us by credentials.

        Without `from_sequence` it gets what becomes true from now on, with 0 everything that the outbox has.
        """
        public_url = checked_url(url)
        _require_known(events)
        shown_once = self._first_secret(public_url, secret)
        endpoint_id = f"ep_{self._randomness(8).hex()}"
        now = self._clock()
        endpoint = Endpoint(
            endpoint_id=endpoint_id,
            url=public_url,
            events=events,
            paycode_id=paycode_id,
            sealed_secrets=() if shown_once is None else (self._close(shown_once, endpoint_id),),
            status=EndpointStatus.ACTIVE,
            since=now,
            mirrored=False,
            failing_since=None,
            last_error=None,
            last_success_at=None,
            created_at=now,
            updated_at=now,
            sealed_credentials=self._sealed_credentials(url, endpoint_id),
        )
        with self._lock:
            self._require_new(endpoint)
            self._store.write(partial(_insert, endpoint=endpoint, from_sequence=from_sequence))
            self._mirror(self.find(endpoint_id))
        self._changed()
        return self.find(endpoint_id), shown_once

    def _first_secret(self, url: str, given: str | None) -> str | None:
        if kind_of(url) is EndpointKind.NATS:
            if given is not None:
                raise BadParameter("secret: a NATS endpoint has none; put user and password into its URL")
            if not is_available():
                raise BadParameter(f"url: {INSTALL}")
            return None
        return self._new_secret(given)

    def _new_secret(self, given: str | None) -> str:
        if given is None:
            return SECRET_PREFIX + base64.b64encode(self._randomness(_NEW_SECRET_BYTES)).decode()
        check_secret(given)
        return given

    def _close(self, secret: str, record_id: str) -> str:
        return self._seal.close(secret.encode(), record_id=record_id, nonce=self._randomness(NONCE_BYTES))

    def _sealed_credentials(self, url: str, endpoint_id: str) -> str | None:
        credentials = credentials_of(url)
        return None if credentials is None else self._close(credentials, _credentials_record(endpoint_id))

    def _require_new(self, endpoint: Endpoint) -> None:
        """Not what another endpoint is already."""
        for other in self.every():
            same = (other.url, other.events, other.paycode_id) == (endpoint.url, endpoint.events, endpoint.paycode_id)
            if same and other.endpoint_id != endpoint.endpoint_id:
                raise BadParameter(
                    f"url: endpoint {other.endpoint_id} gets the same events at this URL already: remove it first"
                )

    def update(self, endpoint_id: str, change: Change) -> tuple[Endpoint, str | None]:
        """The changed endpoint, and its new secret when it got one, which is shown only here.

        What it has not acknowledged goes to its new URL at once, and is dropped where it no longer wants it.
        """
        with self._lock:
            before = self.find(endpoint_id)
            fields, shown_once = self._changed_fields(before, change)
            self._require_new(replace(before, **fields))
            self._store.write(partial(_update, endpoint_id=endpoint_id, fields=fields, now=self._clock()))
            self._mirror(self.find(endpoint_id))
        self._changed()
        return self.find(endpoint_id), shown_once

    def _changed_fields(self, before: Endpoint, change: Change) -> tuple[dict[str, Any], str | None]:
        fields: dict[str, Any] = {}
        if change.url is not None:
            fields["url"] = checked_url(change.url)
            fields["sealed_credentials"] = self._sealed_credentials(change.url, before.endpoint_id)
            if kind_of(fields["url"]) is not kind_of(before.url):
                raise BadParameter("url: a webhook stays one, and so does a NATS endpoint: add another endpoint")
        if change.events is not None:
            fields["events"] = change.events or None
            _require_known(fields["events"])
        if change.paycode_id is not None:
            fields["paycode_id"] = change.paycode_id or None
        if change.pause is not None:
            fields["status"] = EndpointStatus.PAUSED if change.pause else EndpointStatus.ACTIVE
        if not change.rotate and change.secret is None:
            return fields, None
        if kind_of(before.url) is EndpointKind.NATS:
            raise BadParameter("secret: a NATS endpoint has none; give its url with the new user and password")
        shown_once = self._new_secret(change.secret)
        now = self._clock()
        older = before.sealed_secrets if now < before.old_secrets_until else before.sealed_secrets[-1:]
        fields["sealed_secrets"] = (*(older if change.overlap_s else ()), self._close(shown_once, before.endpoint_id))
        fields["old_secrets_until"] = now + change.overlap_s
        return fields, shown_once

    def remove(self, endpoint_id: str) -> Endpoint:
        """Forget the endpoint: what it has not acknowledged is not sent any more."""
        with self._lock:
            endpoint = self.find(endpoint_id)
            # The node first: a definition that stayed there would bring the endpoint back.
            self._node.delete_datastore(endpoint_key(endpoint_id))
            self._store.write(lambda tx: endpoints.remove(tx, endpoint_id))
        self._changed()
        return endpoint

    def secrets(self, endpoint: Endpoint) -> list[str]:
        """The secrets that sign now, the oldest first."""
        signing = endpoint.sealed_secrets
        if self._clock() >= endpoint.old_secrets_until:
            signing = signing[-1:]
        return [self._seal.open(sealed, record_id=endpoint.endpoint_id).decode() for sealed in signing]

    def credentials(self, endpoint: Endpoint) -> str | None:
        """What stood before the @ in a NATS endpoint's URL."""
        if endpoint.sealed_credentials is None:
            return None
        record_id = _credentials_record(endpoint.endpoint_id)
        return self._seal.open(endpoint.sealed_credentials, record_id=record_id).decode()

    # --- the mirror in the node's datastore ---

    def _mirror(self, endpoint: Endpoint) -> bool:
        try:
            self._node.write_datastore(endpoint_key(endpoint.endpoint_id), encode_endpoint(endpoint))
        except (NodeRefused, NodeUnknown) as e:
            log.warning("endpoint %s is not in the node's datastore yet: %s", endpoint.endpoint_id, e)
            return False
        self._store.write(lambda tx: endpoints.mark_mirrored(tx, endpoint))
        return True

    def unmirrored(self) -> list[Endpoint]:
        return self._store.read(endpoints.unmirrored)

    def mirror_pending(self) -> int:
        """Write what the datastore lacks; how many definitions are still not there."""
        with self._lock:
            return sum(not self._mirror(endpoint) for endpoint in self.unmirrored())

    def adopt(self) -> list[str]:
        """Take over the endpoints that only the node has, with the events they have not had; what cannot be read."""
        problems: list[str] = []
        with self._lock:
            for datum in self._node.read_datastore("paycodes", "endpoint"):
                endpoint_id = datum.key[-1]
                try:
                    endpoint = decode_endpoint(endpoint_id, datum.text or "")
                    self.secrets(endpoint)
                    self.credentials(endpoint)
                except (UnreadableDefinition, SealBroken) as e:
                    problems.append(str(e))
                    continue
                self._store.write(partial(_take_over, endpoint=endpoint))
        self._changed()
        return problems


def checked_url(url: str, *, name: str = "url") -> str:
    """The URL as it may be seen; BadParameter, which begins with `name`, unless it can be sent to."""
    public_url = check_endpoint_url(url, name=name)
    if kind_of(public_url) is EndpointKind.WEBHOOK:
        check_host(public_url, name=name)
    return public_url


def _credentials_record(endpoint_id: str) -> str:
    """What credentials are sealed for: a sealed secret of the same endpoint does not open as such."""
    return f"{endpoint_id}/credentials"


def _require_known(events: tuple[str, ...] | None) -> None:
    known = {str(event_type) for event_type in EventType}
    for name in events or ():
        if name not in known:
            raise BadParameter(f"events: {name[:40]!r} is none of {', '.join(sorted(known))}")
    if events is not None and not events:
        raise BadParameter("events: name at least one type, or leave it out for all")


def _insert(tx: Transaction, *, endpoint: Endpoint, from_sequence: int | None) -> None:
    if from_sequence is not None:
        first = outbox.first_sequence_timestamp(tx, from_sequence)
        since = 0 if from_sequence == 0 else endpoint.since if first is None else min(first, endpoint.since)
        endpoint = replace(endpoint, since=since)
    endpoints.save(tx, endpoint)
    if from_sequence is not None:
        outbox.backfill(tx, endpoint.endpoint_id, from_sequence=from_sequence)


def _update(tx: Transaction, *, endpoint_id: str, fields: dict[str, Any], now: int) -> None:
    """Change a row as it is now: a sender may have written to it since it was read."""
    before = endpoints.by_id(tx, endpoint_id)
    assert before is not None
    moved = "url" in fields
    revived = before.status is EndpointStatus.DISABLED and fields.get("status") is EndpointStatus.ACTIVE
    if moved or revived:
        fresh: dict[str, Any] = {"failing_since": None, "last_error": None}
        if before.status is EndpointStatus.FAILING:
            fresh["status"] = EndpointStatus.ACTIVE
        fields = {**fresh, **fields}
    endpoints.save(tx, replace(before, **fields, mirrored=False, updated_at=now))
    if moved or "status" in fields:
        endpoints.lift_pause(tx, endpoint_id)
    if moved or revived:
        outbox.make_due(tx, event_id=None, endpoint_id=endpoint_id)
    outbox.drop_unwanted(tx, endpoint_id)


def _take_over(tx: Sql, *, endpoint: Endpoint) -> None:
    if endpoints.by_id(tx, endpoint.endpoint_id) is None:
        if endpoint.status is EndpointStatus.FAILING:
            endpoint = replace(endpoint, status=EndpointStatus.ACTIVE)
        endpoints.save(tx, endpoint)
        outbox.backfill(tx, endpoint.endpoint_id, from_sequence=0)


def check_secret(secret: str) -> None:
    """BadParameter (without the secret in it) unless it is `whsec_` and base64 of 24 to 64 bytes."""
    try:
        raw = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not secret.startswith(SECRET_PREFIX) or len(raw) not in _SECRET_BYTES:
        raise BadParameter("secret: give whsec_ and the base64 of 24 to 64 random bytes, or leave it out")
