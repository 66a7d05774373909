#!/usr/bin/env python3
"""Paycodes, as lightningd runs it: the plugin, or a clear word about what it needs."""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

#: Virtual environments that are used when the Python that lightningd found lacks a module: one beside this file, or
#: the one that `make` keeps in the repository.
VENVS = (os.path.join(HERE, ".venv"), os.path.join(HERE, os.pardir, os.pardir, ".venv"))

#: Set once another Python was tried, so that it is tried once.
TRIED = "PAYCODES_VENV_TRIED"


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


def try_venv() -> None:
    """Start again under a virtual environment of ours, if there is one; nothing was read from stdin yet."""
    for venv in VENVS:
        python = os.path.join(venv, "bin", "python")
        if os.access(python, os.X_OK) and TRIED not in os.environ:
            os.environ[TRIED] = venv
            os.execv(python, [python, os.path.abspath(__file__)])  # noqa: S606 (our own file, no shell)


def main() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 (an old Python gets a word, not a syntax error)
        try_venv()
        decline("Paycodes needs Python 3.10 or newer")
        return
    try:
        from cln_paycodes.rpc import PaycodesPlugin
    except ImportError as e:
        try_venv()
        decline(f"Paycodes lacks the Python module {e.name}: pip install -r requirements.txt beside paycodes.py")
        return
    PaycodesPlugin().run()


if __name__ == "__main__":
    main()
