"""Opening a network of either kind, and saying why one kind cannot be had here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .devnode_network import DevnodeNetwork
from .interface import Network, NetworkUnavailable

if TYPE_CHECKING:
    from .regtest_network import RegtestNetwork

KINDS = ("devnode", "regtest")

DEFAULT_PLUGIN = Path(__file__).resolve().parents[2] / "plugin" / "paycodes" / "paycodes.py"


def why_unavailable(kind: str) -> str | None:
    """None if this kind of network can run here."""
    if kind not in KINDS:
        return f"there is no kind of network {kind!r}"
    if kind == "devnode":
        return None
    missing = [tool for tool in ("lightningd", "bitcoind") if shutil.which(tool) is None]
    if missing:
        return f"not on PATH: {', '.join(missing)}"
    try:
        import pyln.testing  # noqa: F401  # it is a large package that devnode does without
    except ImportError:
        return "pyln-testing is not installed"
    return None


def available_kinds() -> tuple[str, ...]:
    return tuple(kind for kind in KINDS if why_unavailable(kind) is None)


@contextmanager
def open_network(
    kind: str,
    directory: Path,
    plugin_path: Path | None = None,
    options: dict[str, Any] | None = None,
    beside: Sequence[Path] = (),
) -> Iterator[Network]:
    """A running network in ``directory``, gone without trace in the process table on leaving.

    ``options`` are the plugin's, spelled ``paycodes_db`` or ``paycodes-db``; the plugin is paycodes unless
    another is named. Plugins ``beside`` it are asked after it in every chain of hooks. Raises NetworkUnavailable and
    StartFailed.
    """
    reason = why_unavailable(kind)
    if reason is not None:
        raise NetworkUnavailable(f"{kind}: {reason}")
    plugin = DEFAULT_PLUGIN if plugin_path is None else plugin_path
    network = _network(kind, directory, plugin.resolve(), options or {}, beside)
    try:
        network.open()
        yield network
    finally:
        network.close()


def _network(
    kind: str, directory: Path, plugin: Path, options: dict[str, Any], beside: Sequence[Path]
) -> DevnodeNetwork | RegtestNetwork:
    if kind == "devnode":
        return DevnodeNetwork(directory, plugin, options, beside)
    # It pulls in pyln-testing, which devnode does without.
    from .regtest_network import RegtestNetwork

    return RegtestNetwork(directory, plugin, options, beside)
