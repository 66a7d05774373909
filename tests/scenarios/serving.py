"""A shop that payers reach over HTTP, on a network of either kind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from network import Network, open_network, why_unavailable
from network.daemon import poll_until


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(frozen=True)
class Shop:
    network: Network
    #: where its HTTP is, and the public URL that it gives out
    url: str
    http: httpx.Client

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.network.merchant.call(method, *args, **kwargs)

    def create(self, label: str, **terms: Any) -> dict[str, Any]:
        return self.call("paycode-create", label=label, **terms)

    def get(self, path_or_url: str, **query: Any) -> Any:
        """The JSON of an answer, which LNURL always gives with status 200."""
        answer = self.http.get(path_or_url, params=query or None)
        assert answer.status_code == 200
        return answer.json()

    def issued(self, label: str) -> int:
        """How many invoices the code has handed out."""
        return int(self.call("listpaycodes", label)["paycodes"][0]["issued"])

    def wait_for_event(self, payment_hash: str) -> dict[str, Any]:
        """The data of the `invoice.paid` event of a payment."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            events = self.call("listoutbox", type="invoice.paid", limit=1000)["events"]
            found[:] = [event["data"] for event in events if event["data"]["payment_hash"] == payment_hash]
            return bool(found)

        poll_until(look, 30.0, f"no event of {payment_hash}")
        return found[0]


@contextmanager
def opened_shop(kind: str, directory: Path, **options: Any) -> Iterator[Shop]:
    reason = why_unavailable(kind)
    if reason is not None:
        pytest.skip(f"{kind}: {reason}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    given = {"paycodes_listen": f"127.0.0.1:{port}", "paycodes_url": url, **options}
    with open_network(kind, directory, None, given) as network, httpx.Client(base_url=url) as http:
        yield Shop(network, url, http)
