#!/usr/bin/env python3
"""Paycodes, as lightningd runs it: the plugin, or a clear word about what it needs."""

import json
import os
import sys


def decline(reason: str) -> None:
    """Answer `getmanifest` with the reason, so that lightningd logs it and goes on without the plugin."""
    if os.environ.get("LIGHTNINGD_PLUGIN") != "1":
        sys.exit(reason)
    decoder, received = json.JSONDecoder(), ""
    for line in sys.stdin:
        received += line
        try:
            request, _ = decoder.raw_decode(received.lstrip())
        except ValueError:
            continue
        answer = {"jsonrpc": "2.0", "id": request["id"], "result": {"disable": reason}}
        sys.stdout.write(json.dumps(answer) + "\n\n")
        sys.stdout.flush()
        return


def main() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 (an old Python gets a word, not a syntax error)
        decline("Paycodes needs Python 3.10 or newer")
        return
    try:
        from cln_paycodes.rpc import PaycodesPlugin
    except ImportError as e:
        decline(f"Paycodes lacks the Python module {e.name}: pip install -r requirements.txt beside paycodes.py")
        return
    PaycodesPlugin().run()


if __name__ == "__main__":
    main()
