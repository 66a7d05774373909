"""How fast events leave the outbox, what a backlog costs, and whether payments notice it.

    python contrib/bench/outbox.py [devnode|regtest] [--events 20000] [--backlog 100000] [--payments 40]

Events per second are counted from the moment at which deliveries are committed to the moment at which the last one is
acknowledged on disk, over loopback, against a loop that does nothing but post bodies of the same size with the same
HTTP client. Sender and receiver are processes of their own in both cases; runs of both alternate.
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = REPOSITORY / "plugin" / "paycodes"
sys.path[:0] = [str(REPOSITORY / "contrib"), str(PLUGIN)]

from cln_paycodes.core.events import Event, EventType, event_id, wire_body
from cln_paycodes.store import outbox
from cln_paycodes.store.store import Store
from network import Network, open_network
from network.daemon import environment, poll_until

ROUNDS = 3

#: The paycodes plugin, timed.
TIMED_PLUGIN = REPOSITORY / "contrib" / "network" / "timed_plugin.py"

#: Answers 204 to every POST as fast as Python can, and prints its port first.
RECEIVER = """\
import asyncio

class Receiver(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        while (head := self.received.find(b"\\r\\n\\r\\n")) >= 0:
            fields = self.received[:head].lower().split(b"content-length:")
            end = head + 4 + int(fields[1].split(b"\\r\\n")[0])
            if len(self.received) < end:
                return
            self.received = self.received[end:]
            self.transport.write(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")

async def main():
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

#: What there is to compare with: argv are URL, count and body; prints posts per second.
BARE_LOOP = """\
import sys
import time
import urllib3

url, count, body = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
pool = urllib3.PoolManager(retries=False)
headers = {"content-type": "application/json", "webhook-id": "evt_" + "0" * 32,
           "webhook-timestamp": "1700000000", "webhook-signature": "v1," + "0" * 44}
began = time.perf_counter()
for _ in range(count):
    assert pool.request("POST", url, body=body, headers=headers).status == 204
print(count / (time.perf_counter() - began))
"""


def bare_loop(url: str, events: int) -> float:
    event = synthetic(0)
    body = wire_body(event_id=event.id, event_type=event.type, timestamp=event.timestamp, sequence=1, data=event.data)
    command = [sys.executable, "-c", BARE_LOOP, url, str(events), body]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def synthetic(number: int) -> Event:
    """What a paid invoice makes."""
    payment_hash = hashlib.sha256(str(number).encode()).hexdigest()
    paycode_id = hashlib.sha256(b"bench").hexdigest()
    return Event(
        id=event_id("02" + "00" * 32, EventType.INVOICE_PAID, payment_hash),
        type=EventType.INVOICE_PAID,
        subject=payment_hash,
        paycode_id=paycode_id,
        timestamp=int(time.time()),
        data={
            "paycode_id": paycode_id,
            "index": number,
            "label": f"paycode/{paycode_id}/{number}",
            "payment_hash": payment_hash,
            "amount_msat": 1000 + number,
            "received_msat": 1000 + number,
            "expires_at": int(time.time()),
            "paid_at": int(time.time()),
            "comment": "two coffees",
        },
    )


class Bench:
    def __init__(self, network: Network, receiver: str) -> None:
        self._network = network
        self._node = network.merchant
        self._receiver = receiver
        self._made = 0
        self._node.call("paycode-create", label="bench")

    def fill(self, events: int) -> int:
        """Put events into the outbox while the plugin is away; the sequence of the first."""
        self._node.stop_plugin()
        store = Store(self._node.network_dir / "paycodes.sqlite3")
        try:
            first = store.read(lambda sql: sql.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchone()[0])
            for start in range(0, events, 5000):
                numbers = range(self._made + start, self._made + min(events, start + 5000))
                store.write(lambda tx, numbers=numbers: [outbox.add(tx, synthetic(n)) for n in numbers])  # type: ignore[misc]
        finally:
            store.close()
        self._made += events
        self._node.start_plugin()
        self._settle(first + events)
        return int(first) + 1

    def _settle(self, last: int) -> None:
        """Wait until what a start does is done: the look at the node, the telling of the events inside it."""

        def is_settled() -> bool:
            with closing(sqlite3.connect(self._node.network_dir / "paycodes.sqlite3")) as sidecar:
                told = sidecar.execute("SELECT value FROM facts WHERE name = 'announced'").fetchone()
            return (
                told is not None
                and int(told[0]) >= last
                and self._node.call("getpaycodesinfo")["last_reconcile"] is not None
            )

        poll_until(is_settled, 600, "the plugin does not come to rest")

    def drain(self, first: int) -> tuple[float, float]:
        """Send all from a sequence on to a new endpoint; the seconds it took, the plugin's largest memory in MB."""
        endpoint = self.add(self._receiver, first)
        began, memory = time.perf_counter(), 0.0
        status = Path(f"/proc/{self._node.plugin_pid()}/status")
        while self._node.call("listwebhooks", endpoint)["webhooks"][0]["pending"]:
            memory = max(memory, int(status.read_text().split("VmRSS:")[1].split()[0]) / 1024)
            time.sleep(0.05)
        took = time.perf_counter() - began
        self.remove(endpoint)
        return took, memory

    def add(self, url: str, first: int) -> str:
        return str(self._node.call("webhook-add", url=url, from_sequence=first)["endpoint"])

    def remove(self, endpoint: str) -> None:
        self._node.call("webhook-remove", endpoint)

    def hooks(self, payments: int) -> tuple[float, float]:
        """The median milliseconds that a payment's hook takes, and the payment as a whole."""
        file = self._node.network_dir / "hooks.txt"
        file.unlink(missing_ok=True)
        took = []
        for _ in range(payments):
            invoice = self._node.call("paycode-invoice", paycode="bench", amount_msat=1000)
            began = time.perf_counter()
            self._network.pay(invoice["bolt11"])
            took.append(time.perf_counter() - began)
        hooks = [float(line) for line in file.read_text().split()]
        return statistics.median(hooks) * 1000, statistics.median(took) * 1000


@contextmanager
def receiving() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/paid"
    finally:
        process.kill()
        process.wait()


def measure(bench: Bench, receiver: str, given: argparse.Namespace) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    bare, sent = [], []
    for _ in range(ROUNDS):
        bare.append(bare_loop(receiver, given.events))
        took, _memory = bench.drain(bench.fill(given.events))
        sent.append(given.events / took)
    rows.append(("bare loop of the HTTP client, posts/s", f"{statistics.median(bare):.0f}"))
    rows.append(("committed to acknowledged, events/s", f"{statistics.median(sent):.0f}"))
    ratio = statistics.median(one / other for one, other in zip(sent, bare, strict=True))
    rows.append(("ratio (at least 0.80)", f"{ratio:.2f}"))

    hook, whole = bench.hooks(given.payments)
    rows.append(("hook, payment: no backlog, ms", f"{hook:.2f}, {whole:.1f}"))
    first = bench.fill(given.backlog)
    away = bench.add("http://127.0.0.1:9/nobody", first)
    hook, whole = bench.hooks(given.payments)
    rows.append((f"hook, payment: backlog of {given.backlog}, ms", f"{hook:.2f}, {whole:.1f}"))
    began = time.perf_counter()
    bench._node.call("listoutbox", status="unacknowledged")
    rows.append(("listoutbox unacknowledged with it, ms", f"{(time.perf_counter() - began) * 1000:.1f}"))
    bench.remove(away)
    took, memory = bench.drain(first)
    rows.append((f"backlog of {given.backlog} drained, s", f"{took:.1f}"))
    rows.append(("largest memory meanwhile (under 150), MB", f"{memory:.0f}"))
    return rows


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=textwrap.dedent(__doc__), formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", nargs="?", default="devnode", choices=["devnode", "regtest"])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--payments", type=int, default=40)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        receiving() as receiver,
        open_network(given.kind, Path(directory), TIMED_PLUGIN) as network,
    ):
        rows = measure(Bench(network, receiver), receiver, given)
    print(f"outbox on {given.kind}")
    for name, value in rows:
        print(f"  {name:<44} {value:>14}")


if __name__ == "__main__":
    main()
