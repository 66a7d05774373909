"""The main job, told as it happens: create, issue, get paid, be told, crash, reconcile.

Runs on a real regtest network when lightningd and bitcoind are on PATH, else on devnode, and says which.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from network import Network, open_network, why_unavailable
from network.daemon import poll_until

RECEIVER = Path(__file__).with_name("receiver.py")


def tell(text: str) -> None:
    print(text, flush=True)


def show(command: str) -> None:
    print(f"    $ lightning-cli {command}", flush=True)


class Receiver:
    """The shop's backend: the sample receiver in a process of its own, its output kept."""

    def __init__(self, directory: Path, port: int, secret: str) -> None:
        self._output = directory / "receiver.log"
        self._process = subprocess.Popen(
            [sys.executable, str(RECEIVER), secret, str(port), str(directory / "events.sqlite3")],
            stdout=self._output.open("w"),
            stderr=subprocess.STDOUT,
        )
        poll_until(lambda: _answers(port), 30.0, "the receiver did not start")

    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    def wait_for(self, words: str, count: int) -> None:
        poll_until(
            lambda: sum(words in line for line in self.lines()) >= count,
            30.0,
            f"the receiver did not report {count} times: {words}",
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def main() -> None:
    reason = why_unavailable("regtest")
    kind = "devnode" if reason else "regtest"
    if reason:
        tell(f"No real node here ({reason}): the demo runs on devnode, a stand-in for lightningd.")
    else:
        tell("lightningd and bitcoind are here: the demo runs on a real regtest network, two nodes and a channel.")
    tell("Starting it ...")
    with (
        tempfile.TemporaryDirectory(prefix="paycodes-demo-") as directory,
        open_network(kind, Path(directory)) as network,
    ):
        _tour(network, Path(directory))


def _tour(network: Network, directory: Path) -> None:
    call = network.merchant.call

    tell("\n1. A paycode: printed once, good for any number of payments.")
    show('paycode-create coffee "One coffee"')
    code = call("paycode-create", "coffee", "One coffee")
    tell(f"    paycode_id {code['paycode_id']}")
    port = free_port()
    show(f"webhook-add http://127.0.0.1:{port}/paid")
    endpoint = call("webhook-add", f"http://127.0.0.1:{port}/paid")
    receiver = Receiver(directory, port, endpoint["secret"])
    try:
        _payments(network, receiver)
    finally:
        receiver.close()


def _payments(network: Network, receiver: Receiver) -> None:
    call = network.merchant.call

    tell("\n2. Invoices: the node issues them itself, each from its own tweaked key.")
    invoices = []
    for _ in range(3):
        show("paycode-invoice coffee 21000")
        invoices.append(call("paycode-invoice", "coffee", 21000))
        tell(f"    index {invoices[-1]['index']}: {invoices[-1]['bolt11'][:60]}...")

    tell("\n3. Another node pays the first one.")
    network.pay(invoices[0]["bolt11"])
    receiver.wait_for("new   invoice.paid", 1)
    tell(f"    the shop's backend got it, signed, and keeps it: {receiver.lines()[-1]}")

    tell("\n4. The plugin is killed with SIGKILL, and paid while it is away.")
    network.merchant.kill_plugin()
    network.pay(invoices[1]["bolt11"])
    tell("    index 2 is paid; no plugin was there to see it.")
    network.merchant.start_plugin()
    receiver.wait_for("new   invoice.paid", 2)
    tell(f"    the plugin is back, asked the node, and told it: {receiver.lines()[-1]}")

    tell("\n5. Books and node, compared.")
    show("reconcile full=true")
    report = call("reconcile", full=True)
    tell(f"    checked {report['checked']}, agree: {str(report['agree']).lower()}")

    tell("\nWhat was paid:\n")
    _table(call)
    if not report["agree"]:
        sys.exit("books and node do not agree")


def _table(call: Callable[..., Any]) -> None:
    delivered = {
        event["data"]["payment_hash"]: ", ".join(delivery["status"] for delivery in event["deliveries"])
        for event in call("listoutbox")["events"]
    }
    rows = [("index", "status", "sat", "paid at", "backend")]
    for row in call("listpaycodeinvoices", "coffee")["invoices"]:
        paid_at = time.strftime("%H:%M:%S", time.localtime(row["paid_at"])) if "paid_at" in row else "-"
        sat = str(row.get("received_msat", row["amount_msat"]) // 1000)
        rows.append((str(row["index"]), row["status"], sat, paid_at, delivered.get(row["payment_hash"], "-")))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        tell("    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            tell("    " + "  ".join("-" * width for width in widths))
    (code,) = call("listpaycodes", "coffee")["paycodes"]
    tell(f"\n    coffee: {code['issued']} issued, {code['paid']} paid, {code['received_msat'] // 1000} sat received")


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    main()
