"""Kill it at random for a while, then count.

Invoices are issued and paid by several callers while plugin and node are killed at random moments, with SIGKILL. In
the end books and node must agree, and the receiver must have been told of exactly what the node says was paid.
"""

from __future__ import annotations

import argparse
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from network import ConnectionLost, Network, PaymentFailed, available_kinds, open_network
from network.daemon import poll_until
from pyln.client import RpcError

CALLERS = 4

RECEIVER = Path(__file__).with_name("receiver.py")


class Soak:
    def __init__(self, network: Network, chance: random.Random) -> None:
        self._network = network
        self._chance = chance
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.issued: dict[str, dict[str, Any]] = {}
        self.failed_calls = self.failed_payments = self.plugin_kills = self.node_kills = 0

    def run(self, seconds: float) -> None:
        callers = [threading.Thread(target=self._shop, args=(number,)) for number in range(CALLERS)]
        for caller in callers:
            caller.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                time.sleep(self._chance.uniform(0.05, 1.5))
                self._kill_something()
        finally:
            self._stopping.set()
            for caller in callers:
                caller.join()

    def _shop(self, number: int) -> None:
        """One caller: an order gets its invoice, however often it has to ask, and most are paid."""
        order = 0
        while not self._stopping.is_set():
            order += 1
            invoice = self._invoice(f"shop-{number}-{order}")
            if invoice is None:
                continue
            with self._lock:
                self.issued[invoice["payment_hash"]] = invoice
            try:
                self._network.pay(invoice["bolt11"], timeout_s=120)
            except (PaymentFailed, ConnectionLost, RpcError):
                self.failed_payments += 1

    def _invoice(self, key: str) -> dict[str, Any] | None:
        while not self._stopping.is_set():
            try:
                return self._network.merchant.call(
                    "paycode-invoice", paycode="soak", amount_msat=1000, idempotency_key=key
                )
            except RpcError:
                self.failed_calls += 1
                time.sleep(0.1)
        return None

    def _kill_something(self) -> None:
        merchant = self._network.merchant
        if self._chance.random() < 0.3:
            self.node_kills += 1
            merchant.kill()
            merchant.start()
            return
        self.plugin_kills += 1
        merchant.kill_plugin()
        time.sleep(self._chance.uniform(0, 0.3))
        poll_until(self._started, 60.0, "the plugin did not start again")

    def _started(self) -> bool:
        try:
            self._network.merchant.start_plugin()
        except RpcError:
            return False
        return True


def main(seconds: float, kind: str, seed: int) -> int:
    print(f"soak on {kind} for {seconds:g} s, seed {seed}", flush=True)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="paycodes-soak-") as name:
        directory = Path(name)
        with open_network(kind, directory) as network:
            call = network.merchant.call
            call("paycode-create", "soak")
            books = directory / "events.sqlite3"
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                port = sock.getsockname()[1]
            secret = call("webhook-add", f"http://127.0.0.1:{port}/")["secret"]
            receiver = subprocess.Popen(
                [sys.executable, str(RECEIVER), secret, str(port), str(books)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                soak = Soak(network, chance)
                soak.run(seconds)
                return _count(network, soak, books)
            finally:
                receiver.kill()
                receiver.wait()


def _count(network: Network, soak: Soak, books: Path) -> int:
    call = network.merchant.call
    report = call("reconcile", full=True)
    call("outbox-retry")
    poll_until(lambda: call("getpaycodesinfo")["outbox"]["backlog"] == 0, 120.0, "the outbox did not empty")
    listed = [entry for entry in call("listinvoices")["invoices"] if entry["label"].startswith("paycode/")]
    paid = {entry["payment_hash"] for entry in listed if entry["status"] == "paid"}
    with sqlite3.connect(books) as conn:
        told = conn.execute(
            "SELECT id, json_extract(body, '$.data.payment_hash') FROM events WHERE type = 'invoice.paid'"
        ).fetchall()
    conn.close()
    problems = []
    if not report["agree"]:
        problems.append(f"books and node do not agree: {report}")
    if sorted(payment_hash for _, payment_hash in told) != sorted(paid):
        problems.append(f"{len(paid)} were paid and {len(told)} told")
    if lost := soak.issued.keys() - {entry["payment_hash"] for entry in listed}:
        problems.append(f"{len(lost)} invoices that callers hold are unknown to the node")
    if "**BROKEN**" in network.merchant.log():
        problems.append("the node's log has BROKEN lines")
    print(
        f"{soak.plugin_kills} kills of the plugin, {soak.node_kills} of the node; {len(listed)} invoices,"
        f" {len(paid)} paid, {len(told)} told; {soak.failed_calls} calls and {soak.failed_payments} payments failed"
    )
    for problem in problems:
        print(f"WRONG: {problem}")
    print("nothing lost, nothing invented" if not problems else "FAILED")
    return len(problems)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=60.0)
    parser.add_argument("kind", nargs="?", choices=available_kinds(), default=available_kinds()[-1])
    parser.add_argument("seed", nargs="?", type=int, default=int(time.time()))
    given = parser.parse_args()
    sys.exit(main(given.seconds, given.kind, given.seed))
