"""Starting and stopping: what cannot work is said clearly, and nothing that is there is changed."""

from __future__ import annotations

import fcntl
import sqlite3
from pathlib import Path

import pytest
from network import Network
from network.daemon import poll_until
from pyln.client import RpcError
from recording import error_of


def _damage(path: Path, content: bytes) -> None:
    for other in path.parent.glob("paycodes.sqlite3-*"):
        other.unlink()
    path.write_bytes(content)


def test_zero_configuration_starts(network: Network) -> None:
    """Without a single option the plugin works, with its sidecar beside the node's files, for its owner alone."""
    sidecar = network.merchant.network_dir / "paycodes.sqlite3"
    info = network.merchant.call("getpaycodesinfo")

    assert info["database"] == str(sidecar)
    assert sidecar.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"not a database" * 500, b"SQLite format 3\x00" + b"\x55" * 8000])
def test_damaged_sidecar_is_refused_and_left_alone(network: Network, content: bytes) -> None:
    """Every command answers 3109 with what to do; the file keeps its bytes; the node runs on."""
    merchant = network.merchant
    sidecar = merchant.network_dir / "paycodes.sqlite3"
    merchant.stop()
    _damage(sidecar, content)
    merchant.start()
    errors = [error_of(merchant, method) for method in ("listpaycodes", "reconcile", "getpaycodesinfo")]
    bad_input = error_of(merchant, "paycode-create")

    assert {error["code"] for error in errors} == {3109}
    assert all("reconcile full=true" in error["message"] for error in errors)
    assert bad_input["code"] == -32602
    assert sidecar.read_bytes() == content
    assert merchant.call("getinfo")["id"]


def _begins_to_work(network: Network) -> None:
    def works() -> bool:
        try:
            return "paycodes" in network.merchant.call("listpaycodes")
        except RpcError:
            return False

    poll_until(works, 30.0, "the plugin does not begin to work by itself")


def test_plugin_begins_to_work_once_the_sidecar_is_free(network: Network) -> None:
    """Another process has the sidecar: every command says so, and works when that has ended, without a restart."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    merchant.stop_plugin()
    with (merchant.network_dir / "paycodes.sqlite3.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        merchant.start_plugin()
        refused = error_of(merchant, "paycode-invoice", "coffee", 1000)
    _begins_to_work(network)
    invoice = merchant.call("paycode-invoice", "coffee", 1000)
    network.pay(invoice["bolt11"])

    assert refused["code"] == 3109
    assert "another process has the sidecar" in refused["message"]
    assert merchant.call("paycode-wait", "coffee", invoice["index"], "paid", 30)["status"] == "paid"


@pytest.mark.parametrize("method", ["getinfo", "makesecret", "listdatastore", "listconfigs"])
def test_plugin_begins_to_work_once_the_node_answers(network: Network, method: str) -> None:
    """The node fails a call in the middle of the start: nothing of that try stays in the way of the next."""
    if not network.supports_faults:
        pytest.skip("a real node does not fail on demand")
    merchant = network.merchant
    merchant.stop_plugin()
    network.fault(method, "refuse", count=1)
    merchant.start_plugin()
    refused = error_of(merchant, "listpaycodes")
    _begins_to_work(network)

    assert refused["code"] == 3109
    assert method in refused["message"]
    assert merchant.call("paycode-create", "tea")["created"] is True


def test_lost_sidecar_is_rebuilt_from_the_node(network: Network) -> None:
    """Delete the file: codes, indexes, invoices and event ids are what they were, and the next index is new."""
    merchant = network.merchant
    code = merchant.call("paycode-create", label="coffee", description="One coffee", user="coffee")
    invoices = [merchant.call("paycode-invoice", "coffee", 1000 + number) for number in range(3)]
    network.pay(invoices[1]["bolt11"])
    merchant.call("paycode-wait", "coffee", 2, "paid", 30)
    events = [event["id"] for event in merchant.call("listoutbox")["events"]]
    merchant.stop()
    for path in merchant.network_dir.glob("paycodes.sqlite3*"):
        path.unlink()
    merchant.start()
    report = merchant.call("reconcile", full=True)
    (rebuilt,) = merchant.call("listpaycodes")["paycodes"]
    rows = merchant.call("listpaycodeinvoices", "coffee")["invoices"]

    assert report["agree"] is True
    assert {name: rebuilt[name] for name in ("paycode_id", "description", "user", "issued", "paid")} == {
        "paycode_id": code["paycode_id"],
        "description": "One coffee",
        "user": "coffee",
        "issued": 3,
        "paid": 1,
    }
    assert [(row["index"], row["payment_hash"], row["bolt11"]) for row in rows] == [
        (invoice["index"], invoice["payment_hash"], invoice["bolt11"]) for invoice in invoices
    ]
    assert [event["id"] for event in merchant.call("listoutbox")["events"]] == events
    assert merchant.call("paycode-invoice", "coffee", 1000)["index"] == 4


def test_sidecar_of_another_node_is_refused(network: Network) -> None:
    """A sidecar that was copied from another node is not mistaken for this node's."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    merchant.stop()
    sidecar = merchant.network_dir / "paycodes.sqlite3"
    with sqlite3.connect(sidecar) as conn:
        conn.execute("UPDATE facts SET value = ? WHERE name = 'node_id'", ("02" + "11" * 32,))
    conn.close()
    merchant.start()

    assert "belongs to node" in error_of(merchant, "listpaycodes")["message"]


def test_plugin_stops_and_starts_under_a_running_node(network: Network) -> None:
    """`plugin stop` and `plugin start` go on where things were; waiting callers get a clear word."""
    merchant = network.merchant
    merchant.call("paycode-create", "coffee")
    merchant.call("paycode-invoice", "coffee", 1000)
    merchant.stop_plugin()
    merchant.start_plugin()

    assert merchant.call("paycode-invoice", "coffee", 1000)["index"] == 2
    assert merchant.call("reconcile", full=True)["agree"] is True


def test_log_and_answers_hold_no_secret(network: Network) -> None:
    """After a payment, a webhook and every kind of error, neither log nor lists hold a key, secret or traceback."""
    merchant = network.merchant
    root_key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    merchant.call("paycode-create", label="coffee", root_key=root_key)
    secret = merchant.call("webhook-add", "http://127.0.0.1:1/nobody")["secret"]
    invoice = merchant.call("paycode-invoice", "coffee", 1000)
    preimage = "157f6f46060675764e20ebf57367a93acb133b91aac3f0f7e0ed1d3578c61473"
    error_of(merchant, "paycode-create", label="tea", root_key=root_key)
    error_of(merchant, "paycode-create", label="tea", root_key="02" + "ff" * 32)
    lists = [merchant.call(method) for method in ("listpaycodes", "listwebhooks", "listoutbox", "getpaycodesinfo")]
    stored = str(merchant.call("listdatastore", key=["paycodes"]))
    plugin_log = "\n".join(line for line in merchant.log().splitlines() if "plugin-paycodes" in line)

    assert merchant.call("paycode-verify", invoice["payment_hash"])["preimage"] is None
    for word in (root_key, secret, secret.removeprefix("whsec_"), preimage):
        assert word not in str(lists)
        assert word not in stored
        assert word not in plugin_log
    assert "Traceback" not in plugin_log
