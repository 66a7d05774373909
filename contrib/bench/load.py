"""The load: clients that keep their connections, in a process of its own, so that it costs others as little as it can.

One loop without threads serves all clients; what they send is made before the clock runs. Run as a script it takes a
job as JSON on stdin, and says what it saw on stdout.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Job:
    #: path of a unix socket, or host:port
    address: str
    #: what one client does in one go, request by request; each client takes the next when it is done
    turns: list[list[str]]
    clients: int
    #: in every answer, or the figures mean nothing
    wanted: str
    #: seconds after which no turn begins: a slow machine does less, and not for longer
    limit_s: float = 5.0


@dataclass(frozen=True)
class Seen:
    seconds: float
    #: seconds that each turn took
    times: list[float]

    @property
    def per_second(self) -> float:
        return len(self.times) / self.seconds

    def quantile_ms(self, share: float) -> float:
        return quantile(self.times, share) * 1000


def together(seen: Iterable[Seen]) -> Seen:
    """Several loads as if they were one, without the time between them."""
    each = list(seen)
    return Seen(sum(one.seconds for one in each), [time for one in each for time in one.times])


def quantile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def load(job: Job) -> Seen:
    """Run the job in a process of its own."""
    done = subprocess.run(_command(), input=json.dumps(asdict(job)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the load at {job.address} failed: {done.stderr.strip()[-1000:]}")
    return Seen(**json.loads(done.stdout))


def start_load(job: Job) -> subprocess.Popen[str]:
    """Begin it, and let the caller end it."""
    process = subprocess.Popen(_command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(job)))
    process.stdin.close()
    return process


def _command() -> list[str]:
    return [sys.executable, str(Path(__file__).resolve())]


def get_request(url: str) -> str:
    parts = urlsplit(url)
    return f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"


# --- in the process of its own ---


class Client:
    def __init__(self, address: str) -> None:
        self._is_http = not address.startswith("/")
        if self._is_http:
            host, _, port = address.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address)
        self._received = b""
        self._left: Iterator[bytes] = iter(())
        self.began = 0.0

    def begin(self, turn: list[bytes]) -> None:
        self._left = iter(turn)
        self.began = time.perf_counter()
        self.socket.sendall(next(self._left))

    def take(self) -> bytes | None:
        """What has come, once it is an answer as a whole."""
        chunk = self.socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionError("the connection was closed")
        self._received += chunk
        if not (self._is_http_answer() if self._is_http else self._received.endswith(b"\n\n")):
            return None
        answer, self._received = self._received, b""
        return answer

    def _is_http_answer(self) -> bool:
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return False
        return len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])

    def go_on(self) -> bool:
        """Send the next request of this turn; False when there is none."""
        following = next(self._left, None)
        if following is not None:
            self.socket.sendall(following)
        return following is not None


def work(job: Job) -> Seen:
    turns = iter([[request.encode() for request in turn] for turn in job.turns])
    wanted = job.wanted.encode()
    selector = selectors.DefaultSelector()
    clients = [Client(job.address) for _ in range(min(job.clients, len(job.turns)))]
    times: list[float] = []
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    busy, began = len(clients), time.perf_counter()
    for client in clients:
        client.begin(next(turns))
    while busy:
        for key, _ in selector.select():
            client = key.data
            answer = client.take()
            if answer is None:
                continue
            if wanted not in answer:
                raise ValueError(f"an answer without {job.wanted}: {answer[:500]!r}")
            if client.go_on():
                continue
            now = time.perf_counter()
            times.append(now - client.began)
            turn = next(turns, None) if now < began + job.limit_s else None
            if turn is None:
                busy -= 1
            else:
                client.begin(turn)
    return Seen(time.perf_counter() - began, times)


if __name__ == "__main__":
    print(json.dumps(asdict(work(Job(**json.load(sys.stdin))))))
