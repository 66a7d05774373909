"""What scenarios look at a node with: the recorder's journal, errors, and a raw connection."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from network import Network, Node, open_network, why_unavailable
from network.daemon import poll_until
from pyln.client import RpcError

_RECORDER = Path(__file__).with_name("recorder.py")


@dataclass(frozen=True)
class Recorded:
    """A network whose merchant runs the recorder."""

    network: Network

    @property
    def node(self) -> Node:
        return self.network.merchant

    def entries(self) -> list[list[Any]]:
        path = self.node.network_dir / "recorder.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def about(self, needle: str) -> list[list[Any]]:
        """What the recorder saw that mentions a label or a payment hash."""
        return [entry for entry in self.entries() if needle in json.dumps(entry)]

    def wait_for(self, kind: str, name: str, needle: str = "", count: int = 1) -> list[Any]:
        """The contents of the first ``count`` entries of a kind."""
        found: list[Any] = []

        def look() -> bool:
            found[:] = [e[2] for e in self.about(needle) if e[0] == kind and e[1] == name]
            return len(found) >= count

        poll_until(look, 30.0, f"no {kind} {name} about {needle!r}")
        return found

    def behave(self, hook: str, *answers: Any) -> None:
        self.node.call("recorder-behave", hook=hook, answers=list(answers))

    def behave_from_the_start(self, hook: str, *answers: Any) -> None:
        """What the recorder will do once it is started again."""
        (self.node.network_dir / "recorder.answers").write_text(json.dumps({hook: answers}))


@contextmanager
def opened_network(
    kind: str, directory: Path, plugin: Path, options: dict[str, Any], beside: Sequence[Path] = ()
) -> Iterator[Network]:
    """As `open_network`; a test that asks for a kind that this machine cannot have is skipped."""
    reason = why_unavailable(kind)
    if reason is not None:
        pytest.skip(f"{kind}: {reason}")
    with open_network(kind, directory, plugin, options, beside) as network:
        yield network


def recorder_in(directory: Path) -> Path:
    """A copy of the recorder that the node can run: executable, and under this very interpreter."""
    path = directory / "recorder.py"
    path.write_text(f"#!{sys.executable}\n{_RECORDER.read_text()}")
    path.chmod(0o755)
    return path


def error_of(node: Node, method: str, *args: Any, **kwargs: Any) -> Any:
    """The error that a call fails with."""
    with pytest.raises(RpcError) as raised:
        node.call(method, *args, **kwargs)
    return raised.value.error


def code_of(node: Node, method: str, *args: Any, **kwargs: Any) -> int:
    return int(error_of(node, method, *args, **kwargs)["code"])


@contextmanager
def connected(node: Node) -> Iterator[tuple[Callable[[str], None], Iterator[Any]]]:
    """A raw connection: a function to send text with, and the answers as they come."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(node.rpc_path))
        yield (lambda text: connection.sendall(text.encode())), _answers(connection)


def _answers(connection: socket.socket) -> Iterator[Any]:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
        while b"\n\n" in received:
            message, received = received.split(b"\n\n", 1)
            yield json.loads(message)


@contextmanager
def parked(node: Node, method: str, params: Any) -> Iterator[Callable[[], Any]]:
    """A call that does not answer yet; what is yielded waits for its whole answer.

    Requests of one connection are begun in order, so once the second is answered the first has been looked at.
    """
    requests = [
        {"jsonrpc": "2.0", "id": "parked", "method": method, "params": params},
        {"jsonrpc": "2.0", "id": "behind", "method": "getinfo", "params": []},
    ]
    with connected(node) as (send, receive):
        send("".join(json.dumps(request) for request in requests))
        first = next(receive)
        assert first["id"] == "behind", f"{method} did not park: {first}"
        yield lambda: next(receive)


def listed(node: Node, label: str) -> dict[str, Any]:
    """What the node says of one invoice."""
    invoice: dict[str, Any] = node.call("listinvoices", label=label)["invoices"][0]
    return invoice


def create(node: Node, label: str, amount: Any = 1000, **terms: Any) -> dict[str, Any]:
    """A plain invoice of the node, with its preimage."""
    preimage = os.urandom(32).hex()
    made = node.call("invoice", amount_msat=amount, label=label, description="d", preimage=preimage, **terms)
    return made | {"preimage": preimage}


def wait_until_in_hook(recorded: Recorded, hook: str, needle: str, count: int = 1) -> None:
    recorded.wait_for("hook", hook, needle, count)
