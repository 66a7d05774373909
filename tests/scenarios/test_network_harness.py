"""The harness itself: it opens what it says, says why it cannot, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from network import KINDS, NetworkUnavailable, NotSupported, open_network, why_unavailable
from network.daemon import is_alive, poll_until
from recording import Recorded

_HARNESS = """
import signal, sys, time
from pathlib import Path
from network import open_network
# Whoever runs the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with open_network("devnode", Path(sys.argv[1]), Path(sys.argv[2])) as network:
    print(network.merchant.pid(), network.merchant.plugin_pid(), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_the_harness(tmp_path: Path, recorder: Path, end: signal.Signals) -> None:
    """Whatever ends the process that opened a network ends the network."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    harness = subprocess.Popen(
        [sys.executable, "-c", _HARNESS, str(tmp_path), str(recorder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert harness.stdout is not None
    with harness.stdout:
        pids = [int(word) for word in harness.stdout.readline().split()]
    assert len(pids) == 2
    harness.send_signal(end)
    harness.wait(30)

    poll_until(lambda: not any(is_alive(pid) for pid in pids), 15.0, f"{pids} still run")


def test_unknown_kind_is_refused(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(NetworkUnavailable, match="there is no kind"), open_network("mainnet", tmp_path):
        pass


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """devnode needs none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert why_unavailable("regtest") == "not on PATH: lightningd, bitcoind"
    assert why_unavailable("devnode") is None


def test_faults_are_devnode_only(shared_recorded: Recorded) -> None:
    """A real node says NotSupported, and supports_faults says so before."""
    network = shared_recorded.network
    assert network.kind in KINDS
    if network.supports_faults:
        network.fault("recorder-echo", "refuse")
        network.clear_faults()
    else:
        with pytest.raises(NotSupported):
            network.fault("recorder-echo", "refuse")
    assert shared_recorded.node.call("recorder-echo")["params"] == {}


def test_payments_run_side_by_side(shared_recorded: Recorded, unique: str) -> None:
    """Each future has its own payment."""
    node, network = shared_recorded.node, shared_recorded.network
    made = [node.call("invoice", 1000, f"{unique}/{i}", "d") for i in range(5)]
    payments = [network.pay_in_background(invoice["bolt11"]) for invoice in made]
    paid = [payment.result(60)["payment_preimage"] for payment in payments]

    assert paid == [node.call("listinvoices", f"{unique}/{i}")["invoices"][0]["payment_preimage"] for i in range(5)]
