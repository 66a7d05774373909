"""A webhook receiver to start from: verifies the signature, keeps each event once, and only then says yes.

    python contrib/receiver.py whsec_... [port] [database]

What `webhook-add` showed as `secret` goes first. The rule behind it: answer 2xx when the event is safe with you, and
never before; whatever else happens, the node sends it again under the same id.
"""

from __future__ import annotations

import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

BODY_BYTES = 1 << 20


def make_server(secret: str, port: int = 8080, database: str = "events.sqlite3") -> ThreadingHTTPServer:
    webhook = Webhook(secret)
    with sqlite3.connect(database) as books:
        books.execute("CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, type TEXT, body TEXT)")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(min(length, BODY_BYTES))
            try:
                event = webhook.verify(body, dict(self.headers.items()))
            except (WebhookVerificationError, ValueError):
                self.answer(400)  # not from our node, or of another time: nothing is kept
                return
            with sqlite3.connect(database, timeout=10) as books:
                row = (event["id"], event["type"], body.decode())
                new = books.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?)", row).rowcount
            # Committed. Ship the goods where the new row is seen, not here: this may run twice for one event.
            print("new  " if new else "again", event["type"], event["id"], flush=True)
            self.answer(204)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """What matters is printed above."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    secret, port, database = (*sys.argv[1:], "8080", "events.sqlite3")[:3]
    make_server(secret, int(port), database).serve_forever()
