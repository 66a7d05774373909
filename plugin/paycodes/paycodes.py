#!/usr/bin/env python3
"""Paycodes, as lightningd runs it: the plugin, or a clear word about what it needs."""

from __future__ import annotations

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
    """Say why in the node's log and in the answer to `init`, so that lightningd goes on without the plugin.

    Not in the answer to `getmanifest` already: lightningd would then not start when its config has an option of ours.
    """
    if os.environ.get("LIGHTNINGD_PLUGIN") != "1":
        sys.exit(reason)
    decoder, received = json.JSONDecoder(), ""
    for line in sys.stdin:
        received = (received + line).lstrip()
        try:
            request, end = decoder.raw_decode(received)
        except ValueError:
            continue
        received = received[end:]
        if request["method"] == "getmanifest":
            say({"id": request["id"], "result": bare_manifest()})
            continue
        say({"method": "log", "params": {"level": "unusual", "message": reason}})
        say({"id": request["id"], "result": {"disable": reason}})
        return


def bare_manifest() -> dict[str, object]:
    """Of a plugin that does nothing: the options alone, which need no module that could be missing."""
    from cln_paycodes.options import OPTIONS, option_type

    options = [
        {"name": name, "type": option_type(default), "default": default, "description": description}
        for name, default, description in OPTIONS
    ]
    return {"options": options, "rpcmethods": [], "dynamic": True}


def say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n\n")
    sys.stdout.flush()


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
