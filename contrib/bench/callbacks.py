"""How fast LNURL callbacks are answered, and what a flood of them costs everyone else.

    python contrib/bench/callbacks.py [devnode|regtest] [--callbacks 600] [--flood 10000]

First table: callbacks per second over loopback at 1, 8 and 32 clients without a rate limit, beside the node's own
`invoice` command called by as many clients over its socket, with the same description; rounds of both alternate, all
clients live in one process of their own. Second table: the node's `getinfo`, the plugin's `invoice_payment` hook (timed
inside the plugin) and whole payments, alone and during a flood from one address with the default limit.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = REPOSITORY / "plugin" / "paycodes"
sys.path[:0] = [str(REPOSITORY / "contrib"), str(PLUGIN)]

from network import Network, open_network

CLIENTS = (1, 8, 32)
ROUNDS = 3
FLOOD_CONNECTIONS = 100
#: Payments and calls of `getinfo` in each column of the second table.
PAYMENTS = 30

#: The paycodes plugin, timed.
TIMED_PLUGIN = REPOSITORY / "contrib" / "network" / "timed_plugin.py"

#: One client's way to ask once; opened anew for each client.
Ask = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class Measured:
    per_second: float
    p50_ms: float
    p99_ms: float

    def columns(self) -> str:
        return f"{self.per_second:>8.0f} {self.p50_ms:>8.1f} {self.p99_ms:>8.1f}"


def quantile(times_s: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(times_s)[min(len(times_s) - 1, int(len(times_s) * share))] * 1000


# --- clients ---


async def http_client(url: str) -> Ask:
    """Keeps its connection; answers with the body."""
    parts = urlsplit(url)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)

    async def ask() -> bytes:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return await reader.readexactly(length)

    return ask


async def node_client(socket_path: Path, description: str, labels: Iterator[int], word: str) -> Ask:
    """The node's own `invoice`, over a connection that it keeps."""
    reader, writer = await asyncio.open_unix_connection(str(socket_path))

    async def ask() -> bytes:
        label = f"{word}-{next(labels)}"
        params = {"amount_msat": 21_000, "label": label, "description": description, "deschashonly": True}
        request = {"jsonrpc": "2.0", "id": label, "method": "invoice", "params": {**params, "expiry": 3600}}
        writer.write(json.dumps(request).encode())
        return await reader.readuntil(b"\n\n")

    return ask


async def load(clients: list[Ask], count: int) -> tuple[float, list[float], list[bytes]]:
    """Seconds in all, seconds of each, and the answers."""
    left = itertools.count()
    times: list[float] = []
    answers: list[bytes] = []

    async def work(ask: Ask) -> None:
        while next(left) < count:
            began = time.perf_counter()
            answers.append(await ask())
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(work, clients))
    return time.perf_counter() - began, times, answers


def measure(clients: Callable[[], Awaitable[list[Ask]]], count: int, wanted: bytes) -> Measured:
    async def run() -> Measured:
        seconds, times, answers = await load(await clients(), count)
        if not all(wanted in answer for answer in answers):
            raise SystemExit(f"an answer without {wanted!r}: {min(answers, key=len)!r}")
        return Measured(len(times) / seconds, quantile(times, 0.5), quantile(times, 0.99))

    return asyncio.run(run())


# --- the two tables ---


def speed(network: Network, url: str, count: int) -> None:
    paycode = network.merchant.call("paycode-create", "speed", "A cup of tea")
    offered = json.load(urlopen(f"{url}/lnurlp/{paycode['paycode_id']}"))
    callback = f"{offered['callback']}?amount=21000"
    labels = itertools.count()

    print(f"\n{'':8} {'LNURL callback':^26}   {'node: invoice':^26}")
    print(f"{'clients':8} {'per s':>8} {'p50 ms':>8} {'p99 ms':>8}   {'per s':>8} {'p50 ms':>8} {'p99 ms':>8}")
    for clients in CLIENTS:
        rounds: list[tuple[Measured, Measured]] = []
        for _ in range(ROUNDS):

            async def payers(clients: int = clients) -> list[Ask]:
                return [await http_client(callback) for _ in range(clients)]

            async def callers(clients: int = clients) -> list[Ask]:
                path = network.merchant.rpc_path
                return [await node_client(path, offered["metadata"], labels, "bench") for _ in range(clients)]

            rounds.append((measure(payers, count, b'"pr"'), measure(callers, count, b"bolt11")))
        ours, nodes = (
            sorted(column, key=lambda measured: measured.per_second)[ROUNDS // 2]
            for column in zip(*rounds, strict=True)
        )
        print(f"{clients:<8} {ours.columns()}   {nodes.columns()}")


def flood(network: Network, url: str, count: int) -> None:
    merchant = network.merchant
    paycode = merchant.call("paycode-create", "flood", "A cup of tea")
    callback = f"{url}/lnurlp/{paycode['paycode_id']}/callback?amount=21000"
    invoices = [merchant.call("paycode-invoice", "flood", 1000)["bolt11"] for _ in range(2 * PAYMENTS)]
    alone = others(network, invoices[:PAYMENTS])
    outcome: list[tuple[float, list[float], list[bytes]]] = []

    async def run() -> None:
        clients = [await http_client(callback) for _ in range(FLOOD_CONNECTIONS)]
        outcome.append(await load(clients, count))

    attack = threading.Thread(target=lambda: asyncio.run(run()))
    attack.start()
    during = others(network, invoices[PAYMENTS:])
    still_on = attack.is_alive()
    attack.join()
    seconds, _, answers = outcome[0]
    kinds = Counter("pr" if b'"pr"' in answer else json.loads(answer)["reason"] for answer in answers)

    print(f"\nflood: {count} callbacks over {FLOOD_CONNECTIONS} connections in {seconds:.1f} s: {dict(kinds)}")
    if not still_on:
        print("(the flood was over before the measurements were: give a larger --flood)")
    print(f"{'':16} {'alone p50':>10} {'max ms':>8}   {'flood p50':>10} {'max ms':>8}")
    for name in alone:
        before, meanwhile = alone[name], during[name]
        print(
            f"{name:16} {statistics.median(before) * 1000:>10.1f} {max(before) * 1000:>8.1f}"
            f"   {statistics.median(meanwhile) * 1000:>10.1f} {max(meanwhile) * 1000:>8.1f}"
        )


def others(network: Network, invoices: list[str]) -> dict[str, list[float]]:
    """Seconds that everyone else waits for."""
    hooks = network.merchant.network_dir / "hooks.txt"
    hooks.unlink(missing_ok=True)
    getinfo: list[float] = []
    payments: list[float] = []
    for bolt11 in invoices:
        began = time.perf_counter()
        network.merchant.call("getinfo")
        getinfo.append(time.perf_counter() - began)
        began = time.perf_counter()
        network.pay(bolt11)
        payments.append(time.perf_counter() - began)
    return {"getinfo": getinfo, "hook": [float(line) for line in hooks.read_text().split()], "payment": payments}


@contextmanager
def opened(kind: str, rate_limit: int) -> Iterator[tuple[Network, str]]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        options = {"paycodes_listen": "127.0.0.1:0", "paycodes_rate_limit": rate_limit}
        with open_network(kind, directory, TIMED_PLUGIN, options) as network:
            listening = network.merchant.call("getpaycodesinfo")["listening"]
            yield network, f"http://{listening['paycodes-listen']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", default="regtest", choices=("devnode", "regtest"))
    parser.add_argument("--callbacks", type=int, default=600, help="in each round")
    parser.add_argument("--flood", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"{arguments.kind}, {arguments.callbacks} in each of {ROUNDS} rounds (the median one is shown)")
    with opened(arguments.kind, 0) as (network, url):
        speed(network, url, arguments.callbacks)
    with opened(arguments.kind, 60) as (network, url):
        flood(network, url, arguments.flood)


if __name__ == "__main__":
    main()
