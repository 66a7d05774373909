"""Endpoints and the outbox, by the RPC methods that operators use, on every kind of node."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network import Network
from network.daemon import poll_until
from receiving import Receiver
from recording import error_of


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def paid(network: Network, code: str) -> dict[str, Any]:
    """An invoice of the code, paid and known to be."""
    invoice = network.merchant.call("paycode-invoice", code, 21000)
    network.pay(invoice["bolt11"])
    answer: dict[str, Any] = network.merchant.call("paycode-wait", code, invoice["index"], "paid", 30)
    return answer


def wait_acknowledged(network: Network, endpoint: str) -> None:
    def nothing_pending() -> bool:
        return bool(network.merchant.call("listwebhooks", endpoint)["webhooks"][0]["pending"] == 0)

    poll_until(nothing_pending, 30.0, f"{endpoint} has not acknowledged everything")


def endpoint_for(network: Network, code: str, url: str, **given: Any) -> dict[str, Any]:
    network.merchant.call("paycode-create", code)
    answer: dict[str, Any] = network.merchant.call("webhook-add", url=url, paycode=code, **given)
    return answer


def test_secret_is_shown_once(shared_network: Network, receiver: Receiver, unique: str) -> None:
    """Adding and rotating show it; no list, no datastore record and no log line does."""
    node = shared_network.merchant
    added = endpoint_for(shared_network, unique, receiver.url)
    rotated = node.call("webhook-update", endpoint=added["endpoint"], rotate=True)
    lists = [node.call(name) for name in ("listwebhooks", "listoutbox", "getpaycodesinfo", "listdatastore")]
    seen = f"{lists}{[line for line in node.log().splitlines() if 'plugin-paycodes' in line]}"

    assert added["secret"] != rotated["secret"]
    assert not any(secret.removeprefix("whsec_") in seen for secret in (added["secret"], rotated["secret"]))


def test_paused_endpoint_shows_what_it_has_not_had(shared_network: Network, receiver: Receiver, unique: str) -> None:
    """listoutbox says what has not reached whom and why; resuming delivers it."""
    node = shared_network.merchant
    added = endpoint_for(shared_network, unique, receiver.url, events=["invoice.paid"])
    receiver.secret = added["secret"]
    paused = node.call("webhook-update", endpoint=added["endpoint"], pause=True)
    invoice = paid(shared_network, unique)
    waiting = [
        (event["data"]["payment_hash"], sent["why"])
        for event in node.call("listoutbox", status="unacknowledged", limit=1000)["events"]
        for sent in event["deliveries"]
        if sent["endpoint"] == added["endpoint"]
    ]
    node.call("webhook-update", endpoint=added["endpoint"], pause=False)
    wait_acknowledged(shared_network, added["endpoint"])

    assert paused["status"] == "paused"
    assert waiting == [(invoice["payment_hash"], "the endpoint is paused")]
    assert [body["data"]["payment_hash"] for body in receiver.verified] == [invoice["payment_hash"]]


def test_failing_endpoint_gets_its_event_after_retry(shared_network: Network, receiver: Receiver, unique: str) -> None:
    """A failed attempt is listed with its answer; outbox-retry does not wait for the schedule."""
    node = shared_network.merchant
    receiver.answer = 500
    added = endpoint_for(shared_network, unique, receiver.url, events=["invoice.paid"])
    paid(shared_network, unique)
    poll_until(lambda: bool(receiver.verified), 30.0, "no attempt was made")

    def is_failing() -> bool:
        return bool(node.call("listwebhooks", added["endpoint"])["webhooks"][0]["status"] == "failing")

    poll_until(is_failing, 30.0, "the endpoint does not count as failing")
    failing = node.call("listwebhooks", added["endpoint"])["webhooks"][0]
    receiver.answer = 200
    retried = node.call("outbox-retry", endpoint=added["endpoint"])
    wait_acknowledged(shared_network, added["endpoint"])
    healed = node.call("listwebhooks", added["endpoint"])["webhooks"][0]

    assert (failing["last_error"], failing["last_success_at"]) == ("HTTP 500", None)
    assert retried == {"retried": 1}
    assert (healed["status"], healed["last_error"]) == ("active", None)
    assert healed["last_success_at"] > 0


def test_new_endpoint_starts_where_it_asks(network: Network, receiver: Receiver) -> None:
    """From now on, from the start, or from a sequence number."""
    node = network.merchant
    node.call("paycode-create", "coffee")
    for _ in range(3):
        paid(network, "coffee")
    node.call("webhook-add", f"{receiver.url}/now")
    node.call("webhook-add", url=f"{receiver.url}/all", from_sequence=0)
    node.call("webhook-add", url=f"{receiver.url}/third", from_sequence=3)
    received: dict[str, list[int]] = {"now": [], "all": [], "third": []}
    paid(network, "coffee")
    poll_until(lambda: len(receiver.verified) >= 1 + 4 + 2, 30.0, "not everything arrived")
    for event in node.call("listoutbox")["events"]:
        for sent in event["deliveries"]:
            url = node.call("listwebhooks", sent["endpoint"])["webhooks"][0]["url"]
            received[url.rpartition("/")[2]].append(event["sequence"])

    assert received == {"now": [4], "all": [1, 2, 3, 4], "third": [3, 4]}


def test_endpoint_survives_a_restart_of_the_node_paused(network: Network, receiver: Receiver) -> None:
    """Its state is in the node's datastore too: even without the sidecar it comes back as it was."""
    added = endpoint_for(network, "coffee", receiver.url)
    network.merchant.call("webhook-update", endpoint=added["endpoint"], pause=True, events=["invoice.paid"])
    network.merchant.stop()
    for file in network.merchant.network_dir.glob("paycodes.sqlite3*"):
        file.unlink()
    network.merchant.start()
    network.merchant.call("reconcile")
    listed = network.merchant.call("listwebhooks", added["endpoint"])["webhooks"][0]

    assert (listed["status"], listed["events"], listed["url"]) == ("paused", ["invoice.paid"], receiver.url)


#: Another plugin on the same node, as its author would write it.
LISTENER = f"""\
#!{sys.executable}
import json

from pyln.client import Plugin

plugin = Plugin()


@plugin.subscribe("paycode_paid")
def on_paid(plugin, paycode_paid, **kwargs):
    with open("heard.jsonl", "a") as file:
        file.write(json.dumps(paycode_paid) + "\\n")


plugin.run()
"""


def test_other_plugins_are_told_inside_the_node(network: Network, tmp_path: Path) -> None:
    """A plugin that subscribes to paycode_paid hears of each payment under its event's id."""
    node = network.merchant
    listener = tmp_path / "listener.py"
    listener.write_text(LISTENER)
    listener.chmod(0o755)
    node.call("plugin", "start", str(listener))
    node.call("paycode-create", "coffee")
    invoice = paid(network, "coffee")
    heard = node.network_dir / "heard.jsonl"
    poll_until(lambda: heard.exists() and heard.read_text().endswith("\n"), 30.0, "nothing was heard")
    event = node.call("listoutbox", type="invoice.paid")["events"][0]
    contents = [json.loads(line) for line in heard.read_text().splitlines()]

    assert {content["id"] for content in contents} == {event["id"]}
    assert contents[0]["data"]["payment_hash"] == invoice["payment_hash"]
    assert "hasn't declared in its manifest" not in node.log()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"url": "ftp://shop.example/"}, "url: "),
        ({"url": "https://u:p@shop.example/"}, "url: "),
        ({"events": ["invoice.stolen"]}, "events: "),
        ({"secret": "whsec_short"}, "secret: "),
        ({"overlap": 10**9}, "overlap: "),
    ],
)
def test_bad_change_of_an_endpoint_is_refused(
    shared_network: Network, receiver: Receiver, unique: str, given: dict[str, Any], named: str
) -> None:
    """The parameter is named and nothing is changed."""
    added = endpoint_for(shared_network, unique, receiver.url)
    node = shared_network.merchant
    error = error_of(node, "webhook-update", endpoint=added["endpoint"], **given)

    assert (error["code"], error["message"].startswith(named)) == (-32602, True)
    assert node.call("listwebhooks", added["endpoint"])["webhooks"][0]["url"] == receiver.url
