"""Who may ask how often: the address a request comes from, its token buckets, and the caps that hold for everyone.

A forwarded address counts only when the connection comes from a proxy that the operator named; else anyone could claim
any address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from starlette.requests import HTTPConnection

from ..core.rates import TokenBuckets
from .settings import HttpSettings

log = logging.getLogger(__name__)

#: Invoices that may be in the making, or wait for a thread, at a time.
CALLBACKS_MOST = 64
#: Connections of one caller at a time, so that one alone cannot take them all.
CONNECTIONS_PER_ADDRESS = 128
#: Live pages ("paid" within a second) at a time, in all and for one address.
STREAMS_MOST = 256
STREAMS_PER_ADDRESS = 24
#: How many invoices one code hands out, and how many questions that make nothing one address may ask, for each
#: invoice that one address may ask for.
PAYCODE_FACTOR = 10
READ_FACTOR = 10
#: Seconds before an answer that turns a caller away: a flood waits, the node does not.
PAUSE_S = 0.1

_MOST_KEYS = 20_000


class Limits:
    """Not thread-safe: the server's loop alone uses it."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._addresses = _buckets(settings.rate_limit)
        self._paycodes = _buckets(settings.rate_limit * PAYCODE_FACTOR)
        self._reads = _buckets(settings.rate_limit * READ_FACTOR)
        self._streams: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()
        self._warned = False
        self.callbacks = 0
        self.streams = 0
        #: requests turned away, by why
        self.refused: Counter[str] = Counter()

    def connect(self, peer: str) -> bool:
        """Count a connection; False when its caller has too many. A named proxy, or no limit at all, knows none."""
        free, caller = self._settings.rate_limit == 0 or self._settings.trusts(peer), _caller(peer)
        if not free and self._connections[caller] >= CONNECTIONS_PER_ADDRESS:
            self.refused["connections"] += 1
            return False
        self._connections[caller] += 1
        return True

    def disconnect(self, peer: str) -> None:
        caller = _caller(peer)
        self._connections[caller] -= 1
        if not self._connections[caller]:
            del self._connections[caller]

    def address(self, request: HTTPConnection) -> str:
        """Whose request it is; an IPv6 network of 64 bits counts as one."""
        peer = request.client.host if request.client is not None else "unknown"
        forwarded = request.headers.getlist("x-forwarded-for")
        if forwarded:
            peer = self._forwarded(peer, ",".join(forwarded))
        return _caller(peer)

    def _forwarded(self, peer: str, chain: str) -> str:
        """The last address of the chain that is not a proxy of ours."""
        if not self._settings.trusts(peer):
            if not self._warned:
                self._warned = True
                log.warning(
                    "requests come through a proxy at %s that is not named in paycodes-trust-proxy: all its callers"
                    " share one rate limit",
                    peer,
                )
            return peer
        for hop in reversed([part.strip() for part in chain.split(",")]):
            if not self._settings.trusts(hop):
                return hop
        return peer

    def may_ask(self, address: str) -> bool:
        """One question that makes nothing."""
        return self._take(self._reads, address, "address")

    def may_make(self, address: str, paycode_id: str) -> bool:
        """One invoice."""
        return self._take(self._addresses, address, "address") and self._take(self._paycodes, paycode_id, "paycode")

    def _take(self, buckets: TokenBuckets | None, key: str, why: str) -> bool:
        if buckets is None or buckets.take(key, time.monotonic()):
            return True
        self.refused[why] += 1
        return False

    def has_room(self) -> bool:
        """For one more callback under way."""
        if self.callbacks < CALLBACKS_MOST:
            return True
        self.refused["busy"] += 1
        return False

    def has_stream_room(self, address: str) -> bool:
        """For one more live page."""
        if self.streams < STREAMS_MOST and self._streams[address] < STREAMS_PER_ADDRESS:
            return True
        self.refused["streams"] += 1
        return False

    @contextmanager
    def stream(self, address: str) -> Iterator[None]:
        """Counts a live page while it is open."""
        self.streams += 1
        self._streams[address] += 1
        try:
            yield
        finally:
            self.streams -= 1
            self._streams[address] -= 1
            if not self._streams[address]:
                del self._streams[address]

    @staticmethod
    async def pause() -> None:
        await asyncio.sleep(PAUSE_S)


@lru_cache(_MOST_KEYS)
def _caller(address: str) -> str:
    """What counts as one: an address, a network, or whatever a proxy wrote there."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def _buckets(per_minute: int) -> TokenBuckets | None:
    """None for no limit."""
    if per_minute == 0:
        return None
    return TokenBuckets(burst=per_minute, per_second=per_minute / 60, most_keys=_MOST_KEYS)
