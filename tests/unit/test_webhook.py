"""One attempt at receivers that behave, and at those that do not."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cln_paycodes.core.retry import Answer
from cln_paycodes.services.publisher import Message
from cln_paycodes.services.timer import Timer
from cln_paycodes.services.webhook import WebhookPublisher
from samples import NOW
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_" + "QUJD" * 8
MESSAGE = Message(id="evt_1", type="invoice.paid", body='{"comment":"café"}')
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

#: What a receiver does with a connection after it has read one request.
Behave = Callable[[socket.socket], None]


class RawReceiver:
    """Reads requests and lets a function write to the socket what it likes."""

    def __init__(self, behave: Behave) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/paid?shop=1"
        self.requests: list[bytes] = []
        self.connections = 0
        #: sent before anything is read
        self.greeting = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(self.greeting)
            while (request := self._read(connection)) is not None:
                self.requests.append(request)
                self._behave(connection)

    @staticmethod
    def _read(connection: socket.socket) -> bytes | None:
        received = b""
        while not received.endswith(MESSAGE.body.encode()):
            chunk = connection.recv(65536)
            if not chunk:
                return None
            received += chunk
        return received

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def receive() -> Iterator[Callable[[Behave], RawReceiver]]:
    opened: list[RawReceiver] = []

    def open_one(behave: Behave) -> RawReceiver:
        opened.append(RawReceiver(behave))
        return opened[-1]

    yield open_one
    for receiver in opened:
        receiver.close()


@pytest.fixture
def publisher_to() -> Iterator[Callable[..., WebhookPublisher]]:
    timer, opened = Timer(), []  # type: Timer, list[WebhookPublisher]

    def open_one(url: str, **given: Any) -> WebhookPublisher:
        opened.append(WebhookPublisher(url, timer, **given))
        return opened[-1]

    yield open_one
    for publisher in opened:
        publisher.close()
    timer.stop()


def publish(publisher: WebhookPublisher) -> Answer:
    return publisher.publish(MESSAGE, secrets=[SECRET], now=NOW)


def test_message_is_signed_and_sent_to_path_and_query(receive: Any, publisher_to: Any) -> None:
    """Headers and body are those of Standard Webhooks."""
    receiver = receive(lambda connection: connection.sendall(OK))
    answer = publish(publisher_to(receiver.url))
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    signature = next(line.split(": ")[1] for line in lines if line.lower().startswith("webhook-signature"))

    assert answer == Answer(status=200)
    assert lines[0] == "POST /paid?shop=1 HTTP/1.1"
    assert body.decode() == MESSAGE.body
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("evt_1", str(NOW))
    assert headers["content-type"] == "application/json"
    assert signature == sign(MESSAGE.body)


def sign(body: str) -> str:
    from datetime import datetime, timezone

    signature: str = Webhook(SECRET).sign("evt_1", datetime.fromtimestamp(NOW, timezone.utc), body)
    return signature


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize("answer", [OK, OK.replace(b"length: 0", b"length: 2") + b"ok", CHUNKED])
def test_connection_is_kept_over_a_short_body(receive: Any, publisher_to: Any, answer: bytes) -> None:
    """However its length is told, three attempts need one connection."""
    receiver = receive(lambda connection: connection.sendall(answer))
    publisher = publisher_to(receiver.url)

    assert [publish(publisher).status for _ in range(3)] == [200] * 3
    assert receiver.connections == 1


def test_receiver_that_closes_after_each_answer_is_reached_again(receive: Any, publisher_to: Any) -> None:
    """A connection that it has closed meanwhile is no failure."""
    closed = threading.Event()

    def answer_and_close(connection: socket.socket) -> None:
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    receiver = receive(answer_and_close)
    publisher = publisher_to(receiver.url)
    first = publish(publisher)
    closed.wait(10)

    assert [first.status, publish(publisher).status] == [200, 200]


def test_redirect_is_not_followed(receive: Any, publisher_to: Any) -> None:
    """An event never goes to a host that the operator did not name."""
    other = receive(lambda connection: connection.sendall(OK))
    head = f"HTTP/1.1 307 Elsewhere\r\nlocation: {other.url}\r\ncontent-length: 0\r\n\r\n".encode()
    receiver = receive(lambda connection: connection.sendall(head))
    answer = publish(publisher_to(receiver.url))

    assert (answer.acknowledged, answer.error) == (False, "HTTP 307")
    assert other.requests == []


def test_gigabyte_of_body_is_not_read(receive: Any, publisher_to: Any) -> None:
    """The status counts, the connection is closed after a few kilobytes, memory stays."""
    sent = [0]

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
        block = bytes(1 << 20)
        for _ in range(1024):
            connection.sendall(block)
            sent[0] += len(block)

    receiver = receive(flood)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = publish(publisher_to(receiver.url))
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert answer == Answer(status=200)
    assert sent[0] < 100 << 20
    assert grown_kb < 50 << 10


def drip(prefix: bytes, byte: bytes) -> Behave:
    """Write `prefix`, then one byte now and then, for ever."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(prefix)
        never = threading.Event()
        while True:
            connection.sendall(byte)
            never.wait(0.05)

    return behave


@pytest.mark.parametrize(
    ("prefix", "byte"),
    [(b"", b"H"), (b"HTTP/1.1 200 OK\r\nx-long: ", b"x"), (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n")],
    ids=["status", "header", "headers"],
)
def test_dripping_header_is_cut_off(receive: Any, publisher_to: Any, prefix: bytes, byte: bytes) -> None:
    """A receiver that never stops beginning to answer is no acknowledgement, and holds nobody for long."""
    answer = publish(publisher_to(receive(drip(prefix, byte)).url, deadline_s=0.3))

    assert answer.acknowledged is False
    assert answer.status is None


def test_dripping_body_does_not_take_back_the_answer(receive: Any, publisher_to: Any) -> None:
    """The status acknowledged; the body is given up."""
    behave = drip(b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n", b"x")
    answer = publish(publisher_to(receive(behave).url, deadline_s=0.3))

    assert answer == Answer(status=200)


def test_hanging_receiver_is_cut_off_and_tried_again(receive: Any, publisher_to: Any) -> None:
    """After silence the publisher opens a new connection."""
    answers = iter([None, OK])

    def behave(connection: socket.socket) -> None:
        answer = next(answers)
        if answer is None:
            threading.Event().wait(5)
        else:
            connection.sendall(answer)

    receiver = receive(behave)
    publisher = publisher_to(receiver.url, deadline_s=0.3)
    silent, answered = publish(publisher), publish(publisher)

    assert silent.error == "no complete answer within 30 s"
    assert answered.status == 200


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        bytes(100),
        b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000,
    ],
    ids=["nothing", "ssh", "no-number", "zeros", "long-line"],
)
def test_answer_that_is_no_http_is_a_failure(receive: Any, publisher_to: Any, nonsense: bytes) -> None:
    """Whatever comes back, the attempt ends with a reason and without an exception."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(nonsense)
        connection.shutdown(socket.SHUT_RDWR)

    answer = publish(publisher_to(receive(behave).url))

    assert answer.acknowledged is False
    assert answer.error


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"120", 120),
        (b"0", 0),
        (b"999999999999999999", 999_999_999),
        (b"Fri, 15 Jan 2027 08:10:00 GMT", 600),
        (b"Fri, 15 Jan 2020 08:10:00 GMT", 0),
        (b"soon", None),
        (b"-5", None),
        ("²".encode("latin-1"), None),
    ],
)
def test_retry_after_is_read_in_both_forms(receive: Any, publisher_to: Any, header: bytes, seconds: int | None) -> None:
    """Seconds or a date (RFC 9110); nonsense is as if it were not there."""
    head = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nretry-after: " + header + b"\r\n\r\n"
    answer = publish(publisher_to(receive(lambda connection: connection.sendall(head)).url))

    assert (answer.status, answer.retry_after_s) == (503, seconds)


def test_refused_connection_says_so(publisher_to: Any) -> None:
    """The reason for a person names no address."""
    assert publish(publisher_to("http://127.0.0.1:1/")).error == "the connection was refused"


def test_host_that_does_not_exist_says_so(publisher_to: Any) -> None:
    """A name that does not resolve is a failure like any other."""
    assert publish(publisher_to("http://shop.invalid/")).error == "the host name does not resolve"


def test_plain_http_at_an_https_url_is_refused(receive: Any, publisher_to: Any) -> None:
    """Without a valid handshake nothing of the event is sent."""
    receiver = receive(lambda connection: connection.sendall(OK))
    receiver.greeting = OK
    answer = publish(publisher_to(receiver.url.replace("http:", "https:"), deadline_s=2))

    assert answer.error == "the TLS certificate or handshake was not accepted"
    assert receiver.requests == []
