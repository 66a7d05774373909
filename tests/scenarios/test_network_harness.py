"""The harness itself: it opens what it says, says why it cannot, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from network import KINDS, Network, NetworkUnavailable, NotSupported, StartFailed, open_network, why_unavailable
from network.daemon import is_alive, poll_until
from network.template import Template
from recording import Recorded, opened_network

_HARNESS = """
import signal, sys, time
from pathlib import Path
from network import open_network
# Whoever runs the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with open_network("devnode", Path(sys.argv[1]), Path(sys.argv[2])) as network:
    print(network.merchant.pid(), network.merchant.plugin_pid(), flush=True)
    while True:
        time.sleep(0.1)  # one that comes right before a sleep is seen after it
"""

_MAKER = """
import sys, time
from pathlib import Path
from network.template import Template
def make(directory):
    directory.mkdir()
    (directory / "half").touch()
    print(flush=True)
    time.sleep(600)
Template(Path(sys.argv[1])).copy_into(Path(sys.argv[2]), make)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_the_harness(tmp_path: Path, recorder: Path, end: signal.Signals) -> None:
    """Whatever ends the process that opened a network ends the network."""
    harness = _run(_HARNESS, tmp_path, recorder)
    assert harness.stdout is not None
    with harness.stdout:
        pids = [int(word) for word in harness.stdout.readline().split()]
    assert len(pids) == 2
    harness.send_signal(end)
    harness.wait(30)

    poll_until(lambda: not any(is_alive(pid) for pid in pids), 15.0, f"{pids} still run")


def _run(program: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


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


def test_copies_do_not_disturb_each_other(tmp_path: Path, recorder: Path) -> None:
    """Two real networks open at once are the same nodes twice; one pays in both directions, the other sees nothing."""
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(opened_network("regtest", tmp_path / name, recorder, {})) for name in ("one", "other")
        )
        for node, twin in ((one.merchant, other.merchant), (one.payer, other.payer)):
            assert node.call("getinfo")["id"] == twin.call("getinfo")["id"]
        before, height = _balance_msat(other), other.payer.call("getinfo")["blockheight"]
        one.pay(one.merchant.call("invoice", 50_000, "in", "d")["bolt11"])
        one.pay_out(20_000)
        mined = one.mine()
        poll_until(lambda: _balance_msat(one) == before + 30_000, 30.0, "the channel is not what was paid")
        other.pay(other.merchant.call("invoice", 1_000, "in", "d")["bolt11"])
        poll_until(lambda: _balance_msat(other) == before + 1_000, 30.0, "the other channel is not what was paid")

        assert mined == height + 1
        assert other.payer.call("getinfo")["blockheight"] == height
        assert _balance_msat(one) == before + 30_000


def _balance_msat(network: Network) -> int:
    return int(network.merchant.call("listpeerchannels")["channels"][0]["to_us_msat"])


def test_template_is_made_once(tmp_path: Path) -> None:
    """By the first of those who want a copy at the same time; the others wait for it."""
    template = Template(tmp_path / "template")
    made: list[Path] = []

    def make(directory: Path) -> None:
        made.append(directory)
        _make_whole(directory)

    with ThreadPoolExecutor() as several:
        list(several.map(lambda place: template.copy_into(tmp_path / str(place), make), range(4)))

    assert len(made) == 1
    assert [_names(tmp_path / str(place)) for place in range(4)] == [["whole"]] * 4


def test_half_a_template_is_never_copied(tmp_path: Path) -> None:
    """Whoever was killed while making it, the next one makes it anew."""
    maker = _run(_MAKER, tmp_path / "template", tmp_path / "copy")
    assert maker.stdout is not None
    with maker.stdout:
        maker.stdout.readline()
    halves = [path.name for path in tmp_path.glob("making-*/network/*")]
    maker.kill()
    maker.wait(30)
    Template(tmp_path / "template").copy_into(tmp_path / "copy", _make_whole)

    assert halves == ["half"]
    assert _names(tmp_path / "copy") == ["whole"]


def test_failure_to_make_a_template_leaves_nothing(tmp_path: Path) -> None:
    """It is told to the one who tried, and the next one tries again."""

    def fail(directory: Path) -> None:
        _make_whole(directory)
        raise StartFailed("exit status 1")

    template = Template(tmp_path / "template")
    with pytest.raises(StartFailed):
        template.copy_into(tmp_path / "copy", fail)

    assert not (tmp_path / "copy").exists()
    assert _names(tmp_path) == ["template.lock"]


def _make_whole(directory: Path) -> None:
    directory.mkdir()
    (directory / "whole").touch()


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
