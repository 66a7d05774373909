"""The file that lightningd runs: the plugin, or a clear word about what is missing."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cln_paycodes
import pytest
from cln_paycodes.rpc import PlainFormatter

ENTRY = Path(cln_paycodes.__file__).parent.parent / "paycodes.py"
DEADLINE_S = 60
GETMANIFEST = '{"jsonrpc": "2.0", "id": "cln:getmanifest#1", "method": "getmanifest", "params": {}}\n\n'
INIT = '{"jsonrpc": "2.0", "id": "cln:init#2", "method": "init", "params": {}}\n\n'


def _run(
    tmp_path: Path,
    *options: str,
    stdin: str = "",
    inside_lightningd: bool,
    entry: Path = ENTRY,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "LIGHTNINGD_PLUGIN"}
    inside = {"LIGHTNINGD_PLUGIN": "1"} if inside_lightningd else {}
    return subprocess.run(
        [sys.executable, *options, str(entry)],
        input=stdin,
        env={**inherited, **inside, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def _manifest(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    answer = json.loads(done.stdout)
    assert answer["id"] == "cln:getmanifest#1"
    assert done.stdout.endswith("\n\n")
    result: dict[str, Any] = answer["result"]
    return result


def test_entry_outside_lightningd_prints_how_to_use_it(tmp_path: Path) -> None:
    """Run by hand, or by reckless to try it, it explains itself, succeeds and leaves nothing behind."""
    done = _run(tmp_path, inside_lightningd=False)

    assert done.returncode == 0
    assert f"lightningd --plugin={ENTRY}" in done.stdout
    assert "paycodes-db" in done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_entry_inside_lightningd_gives_its_manifest(tmp_path: Path) -> None:
    """Asked for the manifest it names its methods, hook and options, and touches no file."""
    done = _run(tmp_path, stdin=GETMANIFEST, inside_lightningd=True)
    manifest = _manifest(done)

    assert done.returncode == 0
    assert {"paycode-create", "paycode-invoice", "reconcile"} <= {method["name"] for method in manifest["rpcmethods"]}
    assert "invoice_payment" in {hook["name"] for hook in manifest["hooks"]}
    assert all(option["name"].startswith("paycodes-") for option in manifest["options"])
    assert manifest["cancheck"] is True
    assert "disable" not in manifest
    assert list(tmp_path.iterdir()) == []


def test_wrong_option_is_unusual_in_the_log_of_the_node(tmp_path: Path) -> None:
    """What an operator has to look at stands out among the lines that only inform."""
    manifest = _manifest(_run(tmp_path, stdin=GETMANIFEST, inside_lightningd=True))
    options = {option["name"]: option["default"] for option in manifest["options"]}
    configuration = {"lightning-dir": str(tmp_path), "rpc-file": "lightning-rpc", "startup": True, "network": "regtest"}
    init = {
        "jsonrpc": "2.0",
        "id": "cln:init#2",
        "method": "init",
        "params": {"options": {**options, "paycodes-listen": "nonsense"}, "configuration": configuration},
    }

    done = _run(tmp_path, stdin=f"{GETMANIFEST}{json.dumps(init)}\n\n", inside_lightningd=True)

    said = map(json.loads, filter(None, done.stdout.split("\n\n")))
    logged = [message["params"] for message in said if message.get("method") == "log"]
    assert [line["level"] for line in logged if "not working: paycodes-listen: give" in line["message"]] == ["unusual"]


@pytest.fixture
def bare_entry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's folder, copied to where no virtual environment is near."""
    folder = tmp_path_factory.mktemp("bare") / "plugin" / "paycodes"
    shutil.copytree(ENTRY.parent / "cln_paycodes", folder / "cln_paycodes")
    return Path(shutil.copy(ENTRY, folder))


def test_virtual_environment_beside_the_plugin_is_used(tmp_path: Path, bare_entry: Path) -> None:
    """A Python without the modules hands over to the `.venv` beside the plugin, which has them."""
    python = bare_entry.parent / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = _run(tmp_path, "-S", "-E", stdin=GETMANIFEST, inside_lightningd=True, entry=bare_entry)

    assert "paycode-create" in {method["name"] for method in _manifest(done)["rpcmethods"]}


def _declined(done: subprocess.CompletedProcess[str]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The manifest, what is logged, and the reason in the answer to `init`."""
    manifest, logged, answer = map(json.loads, filter(None, done.stdout.split("\n\n")))
    assert (manifest["id"], answer["id"]) == ("cln:getmanifest#1", "cln:init#2")
    return manifest["result"], logged, answer["result"]["disable"]


@pytest.mark.parametrize("spread", [1, 20])
def test_missing_module_disables_the_plugin_with_advice(tmp_path: Path, bare_entry: Path, spread: int) -> None:
    """Without its dependencies lightningd learns why and goes on without it."""
    stdin = (GETMANIFEST + INIT).replace(" ", "\n", spread)

    # Without site-packages; the modules of the repository itself stay where they are.
    done = _run(tmp_path, "-S", "-E", stdin=stdin, inside_lightningd=True, entry=bare_entry)

    manifest, logged, reason = _declined(done)
    assert done.returncode == 0
    assert reason.startswith("Paycodes lacks the Python module ")
    assert "pip install -r requirements.txt" in reason
    assert (logged["method"], logged["params"]) == ("log", {"level": "unusual", "message": reason})
    assert manifest["rpcmethods"] == []
    assert "Traceback" not in done.stderr


def test_missing_module_leaves_the_options_known(tmp_path: Path, bare_entry: Path) -> None:
    """A plugin that declines knows the same options, so that lightningd starts with a config that sets them."""
    whole = _manifest(_run(tmp_path, stdin=GETMANIFEST, inside_lightningd=True))["options"]

    done = _run(tmp_path, "-S", "-E", stdin=GETMANIFEST + INIT, inside_lightningd=True, entry=bare_entry)

    known = _declined(done)[0]["options"]
    assert known == [{name: option[name] for name in ("name", "type", "default", "description")} for option in whole]


@pytest.mark.parametrize("module", ["pyln", "coincurve", "sqlite_utils", "cryptography", "standardwebhooks", "urllib3"])
def test_missing_module_is_named(tmp_path: Path, bare_entry: Path, module: str) -> None:
    """Whichever dependency cannot be imported is in the message."""
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError(name={module!r})")

    done = _run(tmp_path, stdin=GETMANIFEST + INIT, inside_lightningd=True, entry=bare_entry, PYTHONPATH=str(tmp_path))

    assert f"lacks the Python module {module}:" in _declined(done)[2]


def test_missing_module_outside_lightningd_fails_with_the_same_word(tmp_path: Path, bare_entry: Path) -> None:
    """Who tries it by hand, reckless included, sees a sentence and a failure."""
    done = _run(tmp_path, "-S", "-E", inside_lightningd=False, entry=bare_entry)

    assert done.returncode == 1
    assert "Paycodes lacks the Python module" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stdin", ["", '{"jsonrpc": "2.0", "id": 1, "meth'])
def test_lightningd_that_goes_away_is_not_waited_for(tmp_path: Path, bare_entry: Path, stdin: str) -> None:
    """When stdin ends before the question is whole, it ends too."""
    done = _run(tmp_path, "-S", "-E", stdin=stdin, inside_lightningd=True, entry=bare_entry)

    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    "value",
    ["7" * 5000, "[" * 100_000 + "]" * 100_000, '{"id":' * 5000 + "1" + "}" * 5000],
    ids=["digits", "lists", "objects"],
)
def test_request_that_cannot_be_read_does_not_end_the_plugin(tmp_path: Path, value: str) -> None:
    """JSON that lightningd passes on and Python refuses is answered as bad parameters, and the next call works."""
    stdin = GETMANIFEST + "".join(
        f'{{"jsonrpc": "2.0", "id": "{name}", "method": "listpaycodes", "params": [{parameter}]}}\n\n'
        for name, parameter in (("bad", value), ("good", '"coffee"'))
    )

    done = _run(tmp_path, stdin=stdin, inside_lightningd=True)

    answers = {answer["id"]: answer for answer in map(json.loads, filter(None, done.stdout.split("\n\n")))}
    assert answers["bad"]["error"]["code"] == -32602
    assert answers["good"]["error"]["message"] == "the plugin is starting"
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_log_line_of_an_exception_has_no_traceback() -> None:
    """Whatever a library logs with its traceback reaches the node's log as one line."""
    try:
        raise ValueError("a secret")
    except ValueError:
        record = logging.LogRecord("library", logging.ERROR, "x.py", 1, "it failed", (), sys.exc_info())
    line = PlainFormatter().format(record)

    assert "ValueError" in line
    assert "a secret" not in line
    assert "Traceback" not in line
