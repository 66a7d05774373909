"""The plugin dies at every named point between an event's commit and its acknowledgement: none is lost or invented."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cln_paycodes import crash
from network import ConnectionLost, Network
from network.daemon import poll_until
from pyln.client import RpcError
from receiver import make_server
from receiving import Receiver

#: Every point that an event passes on its way from the commit to the acknowledgement on disk.
POINTS = (
    "paid:recorded",
    "announce:start",
    "announce:emitted",
    "announce:recorded",
    "send:start",
    "send:answered",
    "send:recorded",
)
PAYMENTS = 4


def test_every_point_of_the_way_is_run() -> None:
    """No point of sending or telling is left out here."""
    assert set(POINTS) == {name for name in crash.POINTS if name.startswith(("send:", "announce:"))} | {"paid:recorded"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def pay(network: Network, count: int) -> None:
    """Pay invoices of the one code there is, whatever dies meanwhile."""
    for _ in range(count):
        poll_until(lambda: _is_paid(network), 60.0, "an invoice cannot be paid")


def _is_paid(network: Network) -> bool:
    try:
        invoice = network.merchant.call("paycode-invoice", "coffee", 21000)
    except RpcError:
        revive(network)
        return False
    network.pay(invoice["bolt11"])
    return True


def revive(network: Network) -> None:
    """Start the plugin as the operator would, if it is dead."""
    try:
        network.merchant.plugin_pid()
    except ProcessLookupError:
        try:
            network.merchant.start_plugin()
        except (RpcError, ConnectionLost):
            return


def paid_hashes(network: Network) -> list[str]:
    """What the node itself says."""
    entries = network.merchant.call("listinvoices")["invoices"]
    return sorted(entry["payment_hash"] for entry in entries if entry["status"] == "paid")


def settle(network: Network, endpoint: str) -> None:
    """Skip the waits of the schedule until the endpoint has acknowledged everything that the node was paid."""

    def is_settled() -> bool:
        try:
            network.merchant.call("outbox-retry", endpoint=endpoint)
            events = network.merchant.call("listoutbox", type="invoice.paid")["events"]
            listed = network.merchant.call("listwebhooks", endpoint)["webhooks"][0]
        except RpcError:
            revive(network)
            return False
        return len(events) == len(paid_hashes(network)) and listed["pending"] == listed["exhausted"] == 0

    poll_until(is_settled, 60.0, "not everything was acknowledged")


def assert_told(network: Network, receiver: Receiver) -> None:
    """Each paid invoice under one id of its own, as the outbox has it, and no other event."""
    events = network.merchant.call("listoutbox", type="invoice.paid")["events"]
    kept = {event["id"]: event["data"]["payment_hash"] for event in events}
    arrived = {body["id"]: body["data"]["payment_hash"] for body in receiver.verified}

    assert arrived == kept
    assert sorted(kept.values()) == paid_hashes(network)


@pytest.mark.parametrize("point", POINTS)
def test_event_survives_death_of_the_plugin(
    network: Network, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Killed at the point on the first event's way, then started: every payment is told, under an id that stays."""
    network.merchant.call("paycode-create", "coffee")
    endpoint = network.merchant.call("webhook-add", receiver.url, ["invoice.paid"])
    receiver.secret = endpoint["secret"]
    monkeypatch.setenv("PAYCODES_CRASH_AT", point)
    monkeypatch.setenv("PAYCODES_CRASH_ONCE", str(tmp_path / "died"))
    network.merchant.restart()
    pay(network, PAYMENTS)
    poll_until((tmp_path / "died").exists, 30.0, "the plugin did not reach its crash point")
    settle(network, endpoint["endpoint"])

    assert len(paid_hashes(network)) >= PAYMENTS
    assert_told(network, receiver)


@pytest.mark.parametrize("point", ["send:start", "send:answered"])
def test_event_survives_death_in_every_life(
    network: Network, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """A plugin that dies at the same point again and again loses nothing, and ends with everything told."""
    network.merchant.call("paycode-create", "coffee")
    endpoint = network.merchant.call("webhook-add", receiver.url, ["invoice.paid"])
    receiver.secret = endpoint["secret"]
    network.merchant.call("webhook-update", endpoint=endpoint["endpoint"], pause=True)
    pay(network, PAYMENTS)
    network.merchant.call("paycode-wait", "coffee", PAYMENTS, "paid", 30)
    monkeypatch.setenv("PAYCODES_CRASH_AT", point)
    network.merchant.restart()
    with contextlib.suppress(RpcError):  # it may die before it answers
        network.merchant.call("webhook-update", endpoint=endpoint["endpoint"], pause=False)
    for _ in range(2):
        poll_until(lambda: _is_dead(network), 30.0, "the plugin did not die")
        revive(network)
    monkeypatch.delenv("PAYCODES_CRASH_AT")
    poll_until(lambda: _is_dead(network), 30.0, "the plugin did not die")
    network.merchant.restart()
    settle(network, endpoint["endpoint"])

    assert len(paid_hashes(network)) == PAYMENTS
    assert_told(network, receiver)


def _is_dead(network: Network) -> bool:
    try:
        network.merchant.plugin_pid()
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("point", ["send:start", "send:answered"])
def test_event_survives_death_of_node_and_plugin(
    network: Network, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The node dies with the plugin, and the event is told when both are back."""
    network.merchant.call("paycode-create", "coffee")
    endpoint = network.merchant.call("webhook-add", receiver.url, ["invoice.paid"])
    receiver.secret = endpoint["secret"]
    monkeypatch.setenv("PAYCODES_CRASH_AT", point)
    monkeypatch.setenv("PAYCODES_CRASH_ONCE", str(tmp_path / "died"))
    network.merchant.restart()
    pay(network, 1)
    poll_until((tmp_path / "died").exists, 30.0, "the plugin did not reach its crash point")
    network.merchant.kill()
    network.merchant.start()
    settle(network, endpoint["endpoint"])

    assert_told(network, receiver)


def test_events_survive_the_loss_of_the_sidecar(network: Network, receiver: Receiver) -> None:
    """Rebuilt from the node, the outbox has the same ids, and tells all of them to the endpoint that the node knows."""
    network.merchant.call("paycode-create", "coffee")
    endpoint = network.merchant.call("webhook-add", receiver.url, ["invoice.paid"])
    receiver.secret = endpoint["secret"]
    pay(network, PAYMENTS)
    settle(network, endpoint["endpoint"])
    before = {body["id"] for body in receiver.verified}
    network.merchant.stop()
    for file in network.merchant.network_dir.glob("paycodes.sqlite3*"):
        file.unlink()
    receiver.verified.clear()
    network.merchant.start()
    settle(network, endpoint["endpoint"])

    assert {body["id"] for body in receiver.verified} == before
    assert_told(network, receiver)


def test_receiver_that_stores_and_dies_before_it_answers_gets_the_same_id_again(network: Network) -> None:
    """What it stored and what it gets again carry one id, so that it can tell."""
    stored: list[str] = []

    class Dying(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            stored.append(self.headers["webhook-id"])
            if len(stored) > 2:
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        network.merchant.call("paycode-create", "coffee")
        added = network.merchant.call("webhook-add", f"http://127.0.0.1:{server.server_port}/", ["invoice.paid"])
        pay(network, 1)
        poll_until(lambda: bool(stored), 30.0, "nothing arrived")
        settle(network, added["endpoint"])
        delivery = network.merchant.call("listoutbox", "delivered")["events"][0]
    finally:
        server.shutdown()
        server.server_close()

    assert stored == [delivery["id"]] * 3
    assert delivery["deliveries"][0]["attempts"] == 3


def test_sample_receiver_keeps_each_event_once_through_a_crash(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """contrib/receiver.py, told the same event by two lives of the plugin, keeps one row of it."""
    database = str(tmp_path / "events.sqlite3")
    network.merchant.call("paycode-create", "coffee")
    secret = "whsec_" + "QUJD" * 8
    server = make_server(secret, 0, database)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        added = network.merchant.call("webhook-add", url=url, events=["invoice.paid"], secret=secret)
        monkeypatch.setenv("PAYCODES_CRASH_AT", "send:answered")
        monkeypatch.setenv("PAYCODES_CRASH_ONCE", str(tmp_path / "died"))
        network.merchant.restart()
        pay(network, 2)
        settle(network, added["endpoint"])
    finally:
        server.shutdown()
        server.server_close()
    books = sqlite3.connect(database)
    kept = books.execute("SELECT id FROM events").fetchall()
    books.close()
    events = network.merchant.call("listoutbox", type="invoice.paid")["events"]

    assert sorted(row[0] for row in kept) == sorted(event["id"] for event in events)
    assert "again invoice.paid" in capsys.readouterr().out


def test_plugin_killed_while_it_sends_a_backlog_loses_nothing(network: Network, receiver: Receiver) -> None:
    """SIGKILL at moments that no one chose, in the middle of many events."""
    network.merchant.call("paycode-create", "coffee")
    endpoint = network.merchant.call("webhook-add", receiver.url, ["invoice.paid"])
    receiver.secret = endpoint["secret"]
    for _ in range(3):
        pay(network, PAYMENTS)
        os.kill(network.merchant.plugin_pid(), signal.SIGKILL)
        poll_until(lambda: _is_dead(network), 30.0, "the plugin did not die")
        revive(network)
    settle(network, endpoint["endpoint"])

    assert len(paid_hashes(network)) >= 3 * PAYMENTS
    assert_told(network, receiver)
