"""What a scraper gets when something is wrong, and what of it gets to stderr, which is the node's log."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from backend import eventually
from cln_paycodes.errors import SidecarUnavailable
from cln_paycodes.http.metrics import MetricsServer
from cln_paycodes.http.settings import Address

Info = Callable[[], dict[str, Any]]


def healthy() -> dict[str, Any]:
    return {
        "version": "1",
        "uptime": 1,
        "paycodes": 0,
        "invoices": {},
        "outbox": {"events": 0, "backlog": 0, "oldest_age": None},
        "warnings": [],
        "last_reconcile": None,
    }


@pytest.fixture
def serve() -> Iterator[Callable[[Info], MetricsServer]]:
    opened: list[MetricsServer] = []

    def serve_one(info: Info) -> MetricsServer:
        opened.append(MetricsServer(Address("127.0.0.1", 0), info, None))
        return opened[-1]

    yield serve_one
    for server in opened:
        server.stop()


def scrape(server: MetricsServer) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.port}/metrics")


def unreadable() -> dict[str, Any]:
    raise SidecarUnavailable("the sidecar cannot be read: disk I/O error")


def test_sidecar_that_cannot_be_read_is_said_to_the_scraper(serve: Any, capsys: Any) -> None:
    """A status that Prometheus counts as down, and no traceback at each scrape."""
    answer = scrape(serve(unreadable))

    assert (answer.status_code, answer.text) == (503, "the sidecar cannot be read: disk I/O error")
    assert capsys.readouterr().err == ""


def test_unexpected_error_is_one_line_in_the_log(serve: Any, capsys: Any, caplog: Any) -> None:
    """Which does not quote it; the scraper gets a status."""
    with caplog.at_level(logging.ERROR):
        answer = scrape(serve(lambda: {"secret": "hunter2"}))

    assert answer.status_code == 503
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "hunter2" not in caplog.text + answer.text
    assert capsys.readouterr().err == ""


def test_scraper_that_leaves_is_let_go(serve: Any, capsys: Any) -> None:
    """Without a word; the next one is answered."""
    server = serve(healthy)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as scraper:
            scraper.sendall(b"GET /metrics HTTP/1.1\r\n")
            scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
    eventually(lambda: not any("process_request" in thread.name for thread in threading.enumerate()))

    assert scrape(server).status_code == 200
    assert capsys.readouterr().err == ""


def test_listening_asks_no_dns(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer holds up no start."""
    asked: list[str] = []
    monkeypatch.setattr(socket, "getfqdn", lambda name="": asked.append(name) or name)
    answer = scrape(serve(healthy))

    assert answer.status_code == 200
    assert asked == []
