"""Endpoints: made, removed and found; their definitions mirrored in the node's datastore, secrets sealed."""

from __future__ import annotations

import base64
import binascii
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..core.definitions import UnreadableDefinition, decode_endpoint, encode_endpoint
from ..core.events import EventType
from ..core.records import Endpoint, EndpointStatus
from ..core.seal import NONCE_BYTES, Seal, SealBroken
from ..core.urls import check_endpoint_url
from ..errors import BadParameter, NodeRefused, NodeUnknown, UnknownEndpoint
from ..node.port import Node
from ..store import endpoints, outbox
from ..store.store import Sql, Store
from ..store.writer import Transaction

log = logging.getLogger(__name__)

#: Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes.
SECRET_PREFIX = "whsec_"  # noqa: S105 (a prefix, not a secret)
_SECRET_BYTES = range(24, 65)
_NEW_SECRET_BYTES = 32


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
    ) -> tuple[Endpoint, str]:
        """The new endpoint and its secret, which is shown only here.

        Without `from_sequence` it gets what becomes true from now on, with 0 everything that the outbox has.
        """
        check_endpoint_url(url)
        self._require_known(events)
        secret = (
            SECRET_PREFIX + base64.b64encode(self._randomness(_NEW_SECRET_BYTES)).decode() if secret is None else secret
        )
        check_secret(secret)
        with self._lock:
            for other in self.every():
                if (other.url, other.events, other.paycode_id) == (url, events, paycode_id):
                    raise BadParameter(
                        f"url: endpoint {other.endpoint_id} gets the same events at this URL already: remove it first"
                    )
            endpoint_id = f"ep_{self._randomness(8).hex()}"
            now = self._clock()
            sealed = self._seal.close(secret.encode(), record_id=endpoint_id, nonce=self._randomness(NONCE_BYTES))
            self._store.write(
                partial(
                    _insert,
                    endpoint=Endpoint(
                        endpoint_id=endpoint_id,
                        url=url,
                        events=events,
                        paycode_id=paycode_id,
                        sealed_secrets=(sealed,),
                        status=EndpointStatus.ACTIVE,
                        since=now,
                        mirrored=False,
                        failing_since=None,
                        last_error=None,
                        last_success_at=None,
                        created_at=now,
                        updated_at=now,
                    ),
                    from_sequence=from_sequence,
                    now=now,
                )
            )
            self._mirror(self.find(endpoint_id))
        self._changed()
        return self.find(endpoint_id), secret

    @staticmethod
    def _require_known(events: tuple[str, ...] | None) -> None:
        known = {str(event_type) for event_type in EventType}
        for name in events or ():
            if name not in known:
                raise BadParameter(f"events: {name[:40]!r} is none of {', '.join(sorted(known))}")
        if events is not None and not events:
            raise BadParameter("events: name at least one type, or leave it out for all")

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
        """The secrets that sign, the oldest first."""
        return [self._seal.open(sealed, record_id=endpoint.endpoint_id).decode() for sealed in endpoint.sealed_secrets]

    # --- the mirror in the node's datastore ---

    def _mirror(self, endpoint: Endpoint) -> bool:
        try:
            self._node.write_datastore(endpoint_key(endpoint.endpoint_id), encode_endpoint(endpoint))
        except (NodeRefused, NodeUnknown) as e:
            log.warning("endpoint %s is not in the node's datastore yet: %s", endpoint.endpoint_id, e)
            return False
        self._store.write(lambda tx: endpoints.mark_mirrored(tx, endpoint.endpoint_id))
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
                except (UnreadableDefinition, SealBroken) as e:
                    problems.append(str(e))
                    continue
                self._store.write(partial(_take_over, endpoint=endpoint, now=self._clock()))
        self._changed()
        return problems


def _insert(tx: Transaction, *, endpoint: Endpoint, from_sequence: int | None, now: int) -> None:
    if from_sequence is not None:
        first = outbox.first_sequence_timestamp(tx, from_sequence)
        since = 0 if from_sequence == 0 else endpoint.since if first is None else first
        endpoint = replace(endpoint, since=since)
    endpoints.save(tx, endpoint)
    if from_sequence is not None:
        outbox.backfill(tx, endpoint.endpoint_id, from_sequence=from_sequence, now=now)


def _take_over(tx: Sql, *, endpoint: Endpoint, now: int) -> None:
    if endpoints.by_id(tx, endpoint.endpoint_id) is None:
        endpoints.save(tx, endpoint)
        outbox.backfill(tx, endpoint.endpoint_id, from_sequence=0, now=now)


def check_secret(secret: str) -> None:
    """BadParameter (without the secret in it) unless it is `whsec_` and base64 of 24 to 64 bytes."""
    try:
        raw = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not secret.startswith(SECRET_PREFIX) or len(raw) not in _SECRET_BYTES:
        raise BadParameter("secret: give whsec_ and the base64 of 24 to 64 random bytes, or leave it out")
