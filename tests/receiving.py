"""A webhook receiver in the test's own process, which verifies every signature with the standard's library."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from network.daemon import poll_until
from standardwebhooks.webhooks import Webhook


class Receiver:
    """Answers 200 to what it gets, or what `answer` says; with `hold` only once that is set."""

    def __init__(self, *, answer: int = 200, hold: threading.Event | None = None) -> None:
        self.answer = answer
        #: the secret that signatures must verify with; None: they are not looked at
        self.secret: str | None = None
        #: bodies in order of arrival, those whose signature did not verify left out
        self.verified: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if hold is not None:
                    hold.wait(60)
                if receiver.secret is not None:
                    Webhook(receiver.secret).verify(body, dict(self.headers.items()))
                receiver.verified.append(json.loads(body))
                self.send_response(receiver.answer)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/paid"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, count: int) -> None:
        """Return once that many different events have arrived."""
        poll_until(lambda: len({body["id"] for body in self.verified}) >= count, 30.0, f"no {count} events arrived")
