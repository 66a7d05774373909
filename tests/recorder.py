"""A plugin that writes down all it is told, and answers hooks as it is told: the probe of the parity scenarios.

It talks to the node by hand, without pyln, so that it can also give answers that no library would let through. What it
sees goes to ``recorder.jsonl`` in the network directory, one JSON list ``[kind, name, content]`` a line.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JOURNAL = Path("recorder.jsonl")
#: Answers to hooks that a test has left for the next start.
ANSWERS = Path("recorder.answers")
TOPICS = ["invoice_payment", "invoice_creation", "sendpay_success", "sendpay_failure", "block_added", "recorder_custom"]

#: How long an answer to invoice_payment takes, beside others.
SLOW_S = int(os.environ.get("RECORDER_SLOW_MS", "0")) / 1000

MANIFEST = {
    "dynamic": True,
    "nonnumericids": True,
    "options": [
        {"name": "recorder-word", "type": "string", "default": "none", "description": "any word"},
        {"name": "recorder-number", "type": "int", "description": "any number"},
        {"name": "recorder-flag", "type": "flag", "description": "there or not"},
        {"name": "recorder-shutdown", "type": "bool", "default": False, "description": "unused"},
    ],
    "rpcmethods": [
        {"name": "recorder-echo", "usage": "[a] [b]"},
        {"name": "recorder-fail", "usage": ""},
        {"name": "recorder-hang", "usage": ""},
        {"name": "recorder-behave", "usage": "hook answers"},
        {"name": "recorder-release", "usage": "hook answer"},
        {"name": "recorder-emit", "usage": "what"},
        {"name": "recorder-progress", "usage": ""},
    ],
    # Where both are loaded, paycodes has been asked when this one takes its time.
    "hooks": [{"name": "invoice_payment", "after": ["paycodes.py"]}, {"name": "htlc_accepted"}],
    "subscriptions": TOPICS + (["shutdown"] if os.environ.get("RECORDER_SHUTDOWN") else []),
    "cancheck": "RECORDER_CANCHECK" in os.environ,
    "notifications": [{"method": "recorder_custom"}],
}


class Recorder:
    def __init__(self) -> None:
        self._rpc_file = Path("lightning-rpc")
        #: Answers for the next calls of a hook; then it is ``continue`` again.
        self._answers: dict[str, list[Any]] = {}
        self._held: dict[str, list[Any]] = {}
        self._hung: list[Any] = []

    def run(self) -> None:
        for message in _messages():
            if "id" in message:
                self._answer(message)
            else:
                self._note("notification", message["method"], message)
                if message["method"] == "shutdown":
                    sys.exit(0)

    def _answer(self, message: dict[str, Any]) -> None:
        name, params = message["method"], message["params"]
        if name in ("invoice_payment", "htlc_accepted"):
            self._hook(name, message)
            return
        handler = getattr(self, "_on_" + name.replace("-", "_"))
        result = handler(params, message)
        if result is not None:
            _send({"jsonrpc": "2.0", "id": message["id"]} | result)

    def _hook(self, name: str, message: dict[str, Any]) -> None:
        content = message["params"]
        if name == "invoice_payment":
            found = self._call("listinvoices", {"label": content["payment"]["label"]})
            content = content | {"status": found["result"]["invoices"][0]["status"]}
        self._note("hook", name, content)
        answers = self._answers.get(name)
        answer = answers.pop(0) if answers else {"result": "continue"}
        if answer == "hold":
            self._held.setdefault(name, []).append(message["id"])
        elif answer == "die":
            os._exit(1)
        else:
            answered = {"jsonrpc": "2.0", "id": message["id"], "result": answer}
            if name == "invoice_payment" and SLOW_S:
                threading.Timer(SLOW_S, _send, [answered]).start()
            else:
                _send(answered)

    def _note(self, kind: str, name: str, content: Any) -> None:
        with JOURNAL.open("a") as journal:
            journal.write(json.dumps([kind, name, content]) + "\n")

    def _call(self, method: str, params: dict[str, Any]) -> Any:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._rpc_file))
            request = {"jsonrpc": "2.0", "id": "recorder", "method": method, "params": params}
            connection.sendall(json.dumps(request).encode())
            received = b""
            while not received.endswith(b"\n\n"):
                received += connection.recv(65536)
        return json.loads(received)

    def _on_getmanifest(self, params: Any, _message: Any) -> Any:
        self._note("call", "getmanifest", params)
        return {"result": MANIFEST}

    def _on_init(self, params: Any, _message: Any) -> Any:
        environment = {k: v for k, v in os.environ.items() if k.startswith("LIGHTNINGD_")}
        if ANSWERS.exists():
            self._answers |= json.loads(ANSWERS.read_text())
            ANSWERS.unlink()
        self._note("call", "init", params | {"environment": environment, "cwd": str(Path.cwd())})
        return {"result": {}}

    def _on_recorder_echo(self, params: Any, message: Any) -> Any:
        return {"result": {"params": params, "id": message["id"]}}

    def _on_check(self, params: Any, _message: Any) -> Any:
        if "bad" in params:
            return {"error": {"code": -32602, "message": "bad: should not be there"}}
        return {"result": {"command_to_check": params["command_to_check"], "params": params}}

    def _on_recorder_fail(self, _params: Any, _message: Any) -> Any:
        return {"error": {"code": 3101, "message": "unknown paycode", "data": {"paycode": "x"}}}

    def _on_recorder_hang(self, _params: Any, message: Any) -> Any:
        self._hung.append(message["id"])

    def _on_recorder_behave(self, params: Any, _message: Any) -> Any:
        self._answers[params["hook"]] = params["answers"]
        return {"result": {}}

    def _on_recorder_release(self, params: Any, _message: Any) -> Any:
        held = self._held.pop(params["hook"], [])
        for request_id in held:
            _send({"jsonrpc": "2.0", "id": request_id, "result": params["answer"]})
        return {"result": {"released": len(held)}}

    def _on_recorder_emit(self, params: Any, _message: Any) -> Any:
        for each in params["what"]:
            _send({"jsonrpc": "2.0"} | each)
        return {"result": {}}

    def _on_recorder_progress(self, _params: Any, message: Any) -> Any:
        content = {"id": message["id"], "level": "info", "message": "half way"}
        _send({"jsonrpc": "2.0", "method": "message", "params": content})
        return {"result": {"done": True}}


def _messages() -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    text = ""
    while chunk := os.read(0, 1 << 20):
        text += chunk.decode()
        while text := text.lstrip():
            try:
                message, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break
            text = text[end:]
            yield message


def _send(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n\n")


if __name__ == "__main__":
    Recorder().run()
