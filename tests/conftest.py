"""Networks for scenarios: every test that asks for one runs on each kind of network there is.

``network`` is fresh for the test, which may kill and delete as it likes. ``shared_network`` is one for the whole
session (of each xdist worker): a test uses labels of its own there and leaves the node running. Both run paycodes;
``recorded`` and ``shared_recorded`` run the recorder plugin instead, to look at the node itself.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from network import DEFAULT_PLUGIN, KINDS, Network, Node
from network.template import share
from recording import Recorded, opened_network, recorder_in

# A slow machine is no failure: no example is timed.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_LOG_TAIL_LINES = 60
#: lightningd's daemons say a great deal that has nothing to do with a plugin.
_CHATTER = re.compile(r"channeld|hsmd|connectd|gossipd|-chan#|chanbackup|bookkeeper|bcli|askrene|topology")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A test that fails shows the end of the log of every node it used."""
    report = yield
    if report.when == "call" and report.failed:
        for value in getattr(item, "funcargs", {}).values():
            network = value.network if isinstance(value, Recorded) else value
            merchant = getattr(network, "merchant", None)
            if merchant is not None:
                lines = [line for line in merchant.log().splitlines() if not _CHATTER.search(line)]
                tail = "\n".join(lines[-_LOG_TAIL_LINES:])
                report.sections.append((f"log of the {merchant.kind} merchant", tail))
    return report


@pytest.fixture(scope="session", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Real networks are copies of one, which all xdist workers share: to open one takes a fifth of the time."""
    own = tmp_path_factory.getbasetemp()
    share((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "regtest-template")


@pytest.fixture
def unique() -> str:
    """A word that no other test uses."""
    return uuid.uuid4().hex[:12]


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """The recorder plugin, for a test that opens a network itself."""
    return recorder_in(tmp_path)


@pytest.fixture
def network_options() -> dict[str, Any]:
    """Options of the plugin on ``network``; a test or module overrides this fixture."""
    return {}


@pytest.fixture(params=KINDS)
def network(request: pytest.FixtureRequest, tmp_path: Path, network_options: dict[str, Any]) -> Iterator[Network]:
    with opened_network(request.param, tmp_path, DEFAULT_PLUGIN, network_options) as opened:
        yield opened
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session", params=KINDS)
def shared_network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    directory = tmp_path_factory.mktemp(f"shared-{request.param}")
    with opened_network(request.param, directory, DEFAULT_PLUGIN, {}) as opened:
        yield opened


@pytest.fixture(scope="module", params=KINDS)
def module_network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One for the tests of a module (in each xdist worker): they kill what they like, and leave the node running."""
    directory = tmp_path_factory.mktemp(f"module-{request.param}")
    with opened_network(request.param, directory, DEFAULT_PLUGIN, {}) as opened:
        yield opened


@pytest.fixture(params=KINDS)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recorded]:
    with opened_network(request.param, tmp_path, recorder_in(tmp_path), {}) as opened:
        yield Recorded(opened)
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session", params=KINDS)
def shared_recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    directory = tmp_path_factory.mktemp(f"recorded-{request.param}")
    with ExitStack() as stack:
        opened = stack.enter_context(opened_network(request.param, directory, recorder_in(directory), {}))
        yield Recorded(opened)


@pytest.fixture
def node(shared_recorded: Recorded) -> Node:
    """A node to call, when the payer and the plugin do not matter."""
    return shared_recorded.node
