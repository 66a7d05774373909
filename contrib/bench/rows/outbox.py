"""How fast events leave the outbox, and what a backlog costs.

Counted from the moment at which deliveries are committed to the moment at which the last one is acknowledged on disk,
beside a loop that does nothing but post bodies of the same size with the same HTTP client. Senders and receiver are
processes of their own.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator

from cln_paycodes.core.events import Event, EventType, event_id, wire_body
from cln_paycodes.store import cursors, outbox
from cln_paycodes.store.store import Sql, Store

from ..receiver import receiving
from ..stage import Stage
from ..suite import Goal, Measurement, Round, Row, take_turns
from .flood import TIMED, others
from .reconciling import memory_mb

SENT = 10_000
BACKLOG = 100_000

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

#: Nobody listens there.
_AWAY = "http://127.0.0.1:9/nobody"


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


def bare_loop(url: str) -> float:
    """Posts per second."""
    event = synthetic(0)
    body = wire_body(event_id=event.id, event_type=event.type, timestamp=event.timestamp, sequence=1, data=event.data)
    command = [sys.executable, "-c", BARE_LOOP, url, str(SENT), body]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Outbox:
    """A backlog of events, told to endpoints that come and go."""

    def __init__(self, stage: Stage) -> None:
        """Puts the backlog into the outbox while the plugin is away."""
        self._stage = stage
        self._node = stage.merchant
        stage.without_plugin()
        store = Store(stage.sidecar)
        try:
            self.first = store.read(_last_sequence) + 1
            for start in range(0, BACKLOG, 5000):
                store.write(lambda tx, start=start: [outbox.add(tx, synthetic(start + n)) for n in range(5000)])  # type: ignore[misc]
            self.last = store.read(_last_sequence)
            # They are told to endpoints here, and not inside the node as well, which a start would do.
            store.write(lambda tx: cursors.put_fact(tx, "announced", str(self.last)))
        finally:
            store.close()
        stage.with_plugin()

    def drain(self, url: str, first: int) -> tuple[float, float]:
        """Send all from a sequence on to a new endpoint; the seconds it took, the plugin's largest memory in MB."""
        endpoint = self._node.call("webhook-add", url=url, from_sequence=first)["endpoint"]
        began, memory, pid = time.perf_counter(), 0.0, self._node.plugin_pid()
        while self._node.call("listwebhooks", endpoint)["webhooks"][0]["pending"]:
            memory = max(memory, memory_mb(pid, "VmRSS"))
            time.sleep(0.05)
        took = time.perf_counter() - began
        self._node.call("webhook-remove", endpoint)
        return took, memory

    def with_backlog(self, paycode: str) -> dict[str, float]:
        """What others wait for while all of it waits for a receiver that is away."""
        endpoint = self._node.call("webhook-add", url=_AWAY, from_sequence=self.first)["endpoint"]
        seen = others(self._stage, paycode) | {"list": self.listing_ms()}
        self._node.call("webhook-remove", endpoint)
        return seen

    def without_backlog(self, paycode: str) -> dict[str, float]:
        return others(self._stage, paycode) | {"list": self.listing_ms()}

    def listing_ms(self) -> float:
        began = time.perf_counter()
        self._node.call("listoutbox", status="unacknowledged")
        return (time.perf_counter() - began) * 1000


def _last_sequence(sql: Sql) -> int:
    return int(sql.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchone()[0])


def measure(stage: Stage) -> Iterator[Round]:
    paycode = stage.paycode()
    box = Outbox(stage)
    with receiving() as url:
        _, largest_mb = box.drain(url, box.first)
        for number in range(stage.rounds):
            rates = take_turns(
                number,
                ours=lambda: SENT / box.drain(url, box.last - SENT + 1)[0],
                reference=lambda: bare_loop(url),
            )
            waits = take_turns(
                number, ours=lambda: box.with_backlog(paycode), reference=lambda: box.without_backlog(paycode)
            )
            yield {
                "outbox": (rates["ours"], rates["reference"]),
                "outbox-memory": (largest_mb, None),
                **{f"backlog-{name}": (waits["ours"][name], waits["reference"][name]) for name in _WAITS},
            }


def _backlog(name: str, what: str) -> Row:
    return Row(name=f"backlog-{name}", what=f"{what}, {BACKLOG:,} events waiting", reference="none waiting", unit="ms")


_WAITS = ("hook", "payment", "list")
_ROWS = (
    Row(
        name="outbox",
        what="events committed to acknowledged",
        reference="bare loop of the HTTP client",
        unit="/s",
        goal=Goal(">=", 0.8),
    ),
    Row(
        name="outbox-memory",
        what=f"largest resident memory while {BACKLOG:,} events are sent",
        reference=None,
        unit="MB",
        goal=Goal("<=", 150, of="ours"),
    ),
    _backlog("hook", "invoice_payment hook"),
    _backlog("payment", "payment"),
    _backlog("list", "listoutbox of what is unacknowledged"),
)

MEASUREMENTS = (Measurement(rows=_ROWS, rounds=measure, setting=TIMED),)
