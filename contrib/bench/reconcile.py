"""What `reconcile` costs on a real node with many invoices, as a table.

    python contrib/bench/reconcile.py [--invoices 50000]

A lightningd on regtest gets the invoices straight, under the labels and preimages of a few paycodes; then the plugin,
which has never seen them, rebuilds its books. Rates depend on the machine: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "plugin" / "paycodes")]

from cln_paycodes.app import Services
from cln_paycodes.core.keys import SEED_LABEL, RootKey
from cln_paycodes.core.labels import Slot
from cln_paycodes.node.connection import Connection
from cln_paycodes.node.lightningd import Lightningd
from cln_paycodes.rpc import PaycodesPlugin
from cln_paycodes.rpc import _settings as settings_of
from network import Network, Node, open_network

CODES = 5
PAID = 200
EXPIRED_SHARE = 10
PIPELINED = 128
WALK_PAGE = 1000
PROBE_PAUSE_S = 0.002
REST_S = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invoices", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3, help="rebuilds to measure; the median counts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="paycodes-bench-") as directory:
        options = {"paycodes_reconcile_interval": 86_400}
        with open_network("regtest", Path(directory), options=options) as network:
            fill(network, arguments.invoices)
            measure(network, arguments.rounds)


# --- filling the node ---


def fill(network: Network, count: int) -> None:
    merchant = network.merchant
    codes = [merchant.call("paycode-create", f"code {number}", "bench")["paycode_id"] for number in range(CODES)]
    merchant.stop_plugin()
    started = time.monotonic()
    last = pipeline(merchant, invoice_requests(merchant, codes, count))
    print(f"{count} invoices made in {time.monotonic() - started:.0f} s", flush=True)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(network.pay, last[-PAID:]))
    print(f"{PAID} of them paid", flush=True)


def invoice_requests(merchant: Node, codes: list[str], count: int) -> Iterator[dict[str, Any]]:
    seed = bytes.fromhex(merchant.call("makesecret", string=SEED_LABEL)["secret"])
    roots = {root.paycode_id: root for root in (RootKey.derive(seed, number) for number in range(CODES))}
    for number in range(count):
        root = roots[codes[number % CODES]]
        index = number // CODES + 1
        yield {
            "amount_msat": 1000 + number,
            "label": Slot(root.paycode_id, index).label,
            "description": "bench",
            "expiry": 1 if number < count // EXPIRED_SHARE else 7 * 86_400,
            "preimage": root.invoice(index).preimage.hex(),
        }


def pipeline(merchant: Node, requests: Iterator[dict[str, Any]]) -> list[str]:
    """Many `invoice` calls on one socket; the strings of the last ones."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(merchant.rpc_path))
    room = threading.Semaphore(PIPELINED)
    strings: list[str] = []
    sent = 0
    done = threading.Event()

    def read() -> None:
        buffer, received = b"", 0
        while not (done.is_set() and received == sent):
            buffer += sock.recv(1 << 18)
            *answers, buffer = buffer.split(b"\n\n")
            for answer in answers:
                strings.append(json.loads(answer)["result"]["bolt11"])
                del strings[: -2 * PAID]
                received += 1
                room.release()

    reader = threading.Thread(target=read)
    reader.start()
    following = next(requests, None)
    while following is not None:
        room.acquire()
        request = {"jsonrpc": "2.0", "id": sent, "method": "invoice", "params": following}
        following = next(requests, None)
        if following is None:
            done.set()
        sent += 1
        sock.sendall(json.dumps(request).encode())
    reader.join()
    sock.close()
    return strings


# --- measuring ---


@dataclass
class Round:
    """What one rebuild cost; seconds and MB."""

    walk: float
    rebuild: float
    again: float
    idle: float
    idle_calls: float
    memory_mb: float
    getinfo_p99: float


def measure(network: Network, rounds: int) -> None:
    merchant = network.merchant
    connection = Connection(str(merchant.rpc_path))
    at_rest = Probe(merchant)
    time.sleep(REST_S)
    at_rest.stop()
    measured = [one_round(merchant, connection) for _ in range(rounds)]
    connection.close()

    def median(name: str) -> float:
        middle: float = statistics.median(getattr(each, name) for each in measured)
        return middle

    walk_s, rest_p99 = median("walk"), at_rest.at(0.99)
    calls = count_calls(merchant)
    rows = [
        ("bare walk of listinvoices, pages of 1000", f"{walk_s:.2f} s", ""),
        ("rebuild of the lost sidecar", f"{median('rebuild'):.2f} s", f"{median('rebuild') / walk_s:.2f} walks"),
        ("full run, nothing changed", f"{median('again'):.2f} s", f"{median('again') / walk_s:.2f} walks"),
        ("idle incremental run", f"{median('idle') * 1e3:.1f} ms", f"{calls} node calls"),
        ("the same calls alone", f"{median('idle_calls') * 1e3:.1f} ms", ""),
        ("largest resident size of the plugin", f"{median('memory_mb'):.0f} MB", ""),
        ("getinfo at rest, p99", f"{rest_p99 * 1e3:.2f} ms", f"{len(at_rest.times)} calls"),
        (
            "getinfo during rebuild and full run, p99",
            f"{median('getinfo_p99') * 1e3:.2f} ms",
            f"{median('getinfo_p99') / rest_p99:.1f} times that at rest",
        ),
    ]
    for what, value, relation in rows:
        print(f"{what:<42} {value:>12}  {relation}")


def one_round(merchant: Node, connection: Connection) -> Round:
    walk_s = walk(connection)
    for path in merchant.network_dir.glob("paycodes.sqlite3*"):
        path.unlink()
    merchant.start_plugin()
    probe = Probe(merchant)
    merchant.call("reconcile")  # waits for the run at start, which rebuilds everything
    again = merchant.call("reconcile", full=True)
    probe.stop()
    rebuild_s = rebuild_duration(merchant)
    idle_s, calls_s = [], []
    for _ in range(20):
        calls_s.append(timed(lambda: idle_calls(connection)))
        idle_s.append(merchant.call("reconcile")["duration_ms"] / 1000)
    memory_mb = peak_mb(merchant.plugin_pid())
    if not again["agree"]:
        raise SystemExit(f"books and node do not agree: {again}")
    merchant.stop_plugin()
    return Round(
        walk=walk_s,
        rebuild=rebuild_s,
        again=again["duration_ms"] / 1000,
        idle=statistics.median(idle_s),
        idle_calls=statistics.median(calls_s),
        memory_mb=memory_mb,
        getinfo_p99=probe.at(0.99),
    )


def rebuild_duration(merchant: Node) -> float:
    """Seconds of the run at start, from the plugin's log."""
    return int(re.findall(r"reconcile found \d+ adopted.* in (\d+) ms", merchant.log())[-1]) / 1000


IDLE_CALLS = (("invoices", "created"), ("invoices", "updated"), ("invoices", "deleted"), ("sendpays", "updated"))


def idle_calls(connection: Connection) -> None:
    for subsystem, index in IDLE_CALLS:
        params = {"subsystem": subsystem, "indexname": index, "nextvalue": 0}
        connection.call("wait", params, timeout_s=60)


def timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def count_calls(merchant: Node) -> int:
    """Calls to the node in an idle run: the services in this process, on the sidecar that the plugin has left."""
    counted = CountingNode(str(merchant.rpc_path))
    plugin = PaycodesPlugin()
    options = {name: option.default for name, option in plugin.options.items()}
    services = Services(settings_of(options, merchant.network_dir), counted, lambda _topic, _content: None)
    services.reconciler.run()
    counted.calls = 0
    services.reconciler.run()
    found = counted.calls
    services.stop()
    return found


class CountingNode(Lightningd):
    calls = 0

    def _call(self, method: str, **params: Any) -> Any:
        self.calls += 1
        return super()._call(method, **params)


def walk(connection: Connection) -> float:
    """Seconds of the bare paginated walk: every row fetched and decoded, nothing done with it."""
    started, start = time.monotonic(), 1
    while True:
        page = connection.call("listinvoices", {"index": "created", "start": start, "limit": WALK_PAGE}, timeout_s=60)
        if not page["invoices"]:
            return time.monotonic() - started
        start = page["invoices"][-1]["created_index"] + 1


class Probe:
    """Calls `getinfo` all the time, on a socket of its own."""

    def __init__(self, merchant: Node) -> None:
        self._connection = Connection(str(merchant.rpc_path))
        self._ended = threading.Event()
        self.times: list[float] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(PROBE_PAUSE_S):
            started = time.monotonic()
            self._connection.call("getinfo", {}, timeout_s=60)
            self.times.append(time.monotonic() - started)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def at(self, share: float) -> float:
        """A percentile, in seconds."""
        return sorted(self.times)[int(share * len(self.times))]


def peak_mb(pid: int) -> float:
    """The largest resident size of a process so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise LookupError("no VmHWM")


if __name__ == "__main__":
    main()
