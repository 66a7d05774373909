"""Events into a real NATS JetStream."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backend import Backend, eventually
from cln_paycodes.core.records import DeliveryStatus, EndpointStatus
from cln_paycodes.core.retry import Answer
from cln_paycodes.errors import BadParameter
from cln_paycodes.services.endpoints import Change
from cln_paycodes.services.jetstream import StreamPublisher, is_available
from cln_paycodes.services.publisher import Message
from samples import NOW

pytestmark = [
    pytest.mark.skipif(shutil.which("nats-server") is None, reason="nats-server is not on PATH"),
    pytest.mark.skipif(not is_available(), reason="nats-py is not installed"),
]

MESSAGE = Message(id="evt_1", type="invoice.paid", body='{"id":"evt_1"}')


class Server:
    """A nats-server with JetStream, which keeps what it stored over a restart."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._command = [
            "nats-server",
            "-a",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-js",
            "-sd",
            str(directory),
            *arguments,
        ]
        self._login = ""
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._is_up)

    def _is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def url(self, login: str = "") -> str:
        return f"nats://{login}127.0.0.1:{self.port}/shop"

    def with_stream(self, do: Callable[[Any], Any], **credentials: str) -> Any:
        """Run a coroutine function on a JetStream context."""

        async def run() -> Any:
            import nats

            client = await nats.connect(f"nats://127.0.0.1:{self.port}", **credentials)
            try:
                return await do(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(run())

    def add_stream(self, **credentials: str) -> None:
        self.with_stream(lambda stream: stream.add_stream(name="shop", subjects=["shop.>"]), **credentials)

    def stored(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Subject, message id and body of each message, in order."""

        async def read(stream: Any) -> list[tuple[str, str, dict[str, Any]]]:
            last = (await stream.stream_info("shop")).state.messages
            found = [await stream.get_msg("shop", number) for number in range(1, last + 1)]
            return [(entry.subject, entry.headers["Nats-Msg-Id"], json.loads(entry.data)) for entry in found]

        stored: list[tuple[str, str, dict[str, Any]]] = self.with_stream(read)
        return stored


@pytest.fixture
def open_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    opened: list[Server] = []

    def open_one(*arguments: str) -> Server:
        opened.append(Server(tmp_path / "nats", *arguments))
        return opened[-1]

    yield open_one
    for server in opened:
        server.stop()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    opened = Backend(tmp_path)
    yield opened
    opened.close()


def publish(url: str, credentials: str | None = None) -> Answer:
    publisher = StreamPublisher(url, credentials)
    try:
        return publisher.publish(MESSAGE, secrets=[], now=NOW)
    finally:
        publisher.close()


def test_events_are_stored_under_their_ids_and_types(backend: Backend, open_server: Any) -> None:
    """Each event is a message with its id as Nats-Msg-Id, on the URL's subject and its type, in order."""
    server = open_server()
    server.add_stream()
    endpoint = backend.add(server.url())
    backend.make(1, 2, 3)
    backend.wait_attempts(endpoint, 3)
    stored = server.stored()

    assert [(subject, body["data"]["index"]) for subject, _, body in stored] == [
        ("shop.invoice.paid", number) for number in (1, 2, 3)
    ]
    assert all(message_id == body["id"] for _, message_id, body in stored)
    assert {sent.status for sent in backend.deliveries_to(endpoint)} == {DeliveryStatus.DELIVERED}


def test_event_sent_twice_is_stored_once(open_server: Any) -> None:
    """The stream knows the id; that it had the event already is an acknowledgement."""
    server = open_server()
    server.add_stream()
    answers = [publish(server.url()) for _ in range(2)]

    assert [answer.acknowledged for answer in answers] == [True, True]
    assert len(server.stored()) == 1


def test_event_without_a_stream_is_not_delivered(open_server: Any) -> None:
    """A server that takes the message and keeps it nowhere has not acknowledged it."""
    answer = publish(open_server().url())

    assert answer == Answer(status=None, error="no stream of the NATS server takes the subjects shop.>")


def test_server_that_comes_back_gets_what_it_missed(backend: Backend, open_server: Any) -> None:
    """Killed in between, it is reached by a new connection, and has each event once."""
    server = open_server()
    server.add_stream()
    endpoint = backend.add(server.url())
    backend.make(1)
    backend.wait_attempts(endpoint, 1)
    server.stop()
    backend.make(2)
    eventually(lambda: backend.look(endpoint).status is EndpointStatus.FAILING)
    server.start()
    backend.retry()
    eventually(lambda: backend.look(endpoint).status is EndpointStatus.ACTIVE)

    assert [body["data"]["index"] for _, _, body in server.stored()] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "login", "wrong"),
    [
        (("--user", "shop", "--pass", "p:a@ss"), "shop:p%3Aa%40ss@", "shop:guess@"),
        (("--auth", "t0ken"), "t0ken@", "guess@"),
    ],
    ids=["password", "token"],
)
def test_credentials_open_the_server_and_stay_unseen(
    backend: Backend, open_server: Any, arguments: tuple[str, ...], login: str, wrong: str
) -> None:
    """They are in no list, no error and no definition in the node's datastore, and a URL can bring new ones."""
    server = open_server(*arguments)
    credentials = {"user": "shop", "password": "p:a@ss"} if ":" in login else {"token": "t0ken"}
    server.add_stream(**credentials)
    endpoint = backend.add(server.url(wrong))
    backend.make(1)
    eventually(lambda: backend.look(endpoint).failures)
    refused = backend.look(endpoint).last_error
    backend.endpoints.update(endpoint.endpoint_id, Change(url=server.url(login)))
    backend.wait_attempts(endpoint, 2)
    seen = f"{backend.look(endpoint)}{backend.node.texts}{refused}"

    assert refused == "the NATS server refused the credentials"
    assert backend.look(endpoint).status is EndpointStatus.ACTIVE
    assert backend.look(endpoint).url == server.url()
    assert not any(secret in seen for secret in ("p%3Aa", "p:a@ss", "t0ken", "guess"))


def test_server_that_is_not_there_says_so() -> None:
    """The reason for a person names no credentials."""
    assert publish("nats://127.0.0.1:1/shop", "user:word").error == "the connection was refused"


@pytest.mark.parametrize("credentials", [None, "shop:word", "t0ken"])
def test_plain_server_behind_a_tls_url_is_refused(open_server: Any, credentials: str | None) -> None:
    """With tls:// neither an event nor credentials go out in the clear."""
    server = open_server()
    server.add_stream()
    answer = publish(server.url().replace("nats:", "tls:"), credentials)

    assert answer.error == "the TLS certificate or handshake was not accepted"
    assert server.stored() == []


def test_stream_endpoint_takes_no_secret(backend: Backend) -> None:
    """The server knows us by credentials; a secret would promise a signature that there is not."""
    with pytest.raises(BadParameter, match="secret: "):
        backend.add("nats://127.0.0.1:1/shop", secret="whsec_" + "QUJD" * 8)
