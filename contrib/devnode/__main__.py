"""``python contrib/devnode``: the command line, in lightningd's spelling."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file or a folder: find the package that this file is in
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devnode.errors import StartupError
from devnode.invoice_string import CURRENCIES
from devnode.node import Node

#: Options of lightningd that make no difference here.
_IGNORED = frozenset({"developer", "log-level", "log-file", "daemon", "disable-dns"})


@dataclass
class Arguments:
    lightning_dir: Path = Path.home() / ".devnode"
    network: str = "regtest"
    plugins: list[Path] = field(default_factory=list)
    #: Everything else; whether a plugin declares it is known once it runs.
    others: dict[str, list[Any]] = field(default_factory=dict)


def parse(argv: list[str]) -> Arguments:
    """Raises StartupError."""
    arguments = Arguments()
    for word in argv:
        if not word.startswith("--"):
            raise StartupError(f"no arguments accepted: {word}")
        name, equals, value = word[2:].partition("=")
        if name == "lightning-dir":
            arguments.lightning_dir = Path(value)
        elif name == "network":
            arguments.network = value
        elif name in CURRENCIES:
            arguments.network = name
        elif name == "plugin":
            arguments.plugins.append(Path(value).resolve())
        elif name not in _IGNORED:
            arguments.others.setdefault(name, []).append(value if equals else None)
    if arguments.network not in CURRENCIES:
        raise StartupError(f"--network: unknown network {arguments.network}")
    return arguments


async def _serve(arguments: Arguments) -> int:
    node = Node(arguments.lightning_dir.resolve(), arguments.network, arguments.others)
    try:
        await node.start(arguments.plugins)
    except StartupError as error:
        node.journal.broken(str(error))
        print(f"devnode: {error}", file=sys.stderr)
        await node.plugins.stop_all()
        return 1
    await node.until_stopped()
    return 0


def main() -> int:
    try:
        arguments = parse(sys.argv[1:])
    except StartupError as error:
        print(f"devnode: {error}", file=sys.stderr)
        return 1
    return asyncio.run(_serve(arguments))


if __name__ == "__main__":
    sys.exit(main())
