"""The shape of the code: arrows between packages point one way, and each outer library has one door."""

from __future__ import annotations

import ast
import stat
from pathlib import Path

import cln_paycodes
import pytest

PACKAGE = Path(cln_paycodes.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

_BELOW_SERVICES = {"store", "node", "core", "chaining", "gathering", "yielding", "errors", "crash", "__init__"}
_BELOW_THE_TOP = {"services", "http", *_BELOW_SERVICES}

#: What a part of the package may import of the package, itself always included.
ARROWS = {
    "rpc": {"app", "commands", "options", "outlet", "parameters", *_BELOW_THE_TOP},
    # `commands` names `app.Services` in its types; at run time only `app` is built from what is below.
    "commands": {"app", "parameters", *_BELOW_THE_TOP},
    "app": _BELOW_THE_TOP,
    "outlet": {"core"},
    "parameters": {"core", "errors"},
    "http": {"services", *_BELOW_SERVICES},
    "services": _BELOW_SERVICES,
    "store": {"core", "yielding", "errors", "crash"},
    "node": {"core", "chaining", "errors", "crash"},
    "core": {"errors"},
    "chaining": set(),
    "gathering": set(),
    "yielding": set(),
    "errors": set(),
    "options": set(),
    "crash": set(),
    "__init__": set(),
}

#: Libraries that only some parts may know.
DOORS = {
    "pyln": {"rpc", "app", "node"},
    "sqlite_utils": {"store"},
    "sqlite3": {"store"},
}

#: What `core/` decides without: the clock, chance, the disk, the network, threads.
IMPURE = {
    "asyncio",
    "concurrent",
    "http",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib3",
    "uuid",
}
_CLOCKS = {"now", "utcnow", "today"}


def _part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _imports(path: Path) -> list[tuple[str, str]]:
    """Every import of a module: (part of the package, "") or ("", outer module's first name)."""
    found = []
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}".split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [cln_paycodes.__name__, *package[: len(package) - node.level + 1]]
            base += node.module.split(".") if node.module else []
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for first, *rest in names:
            if first == cln_paycodes.__name__:
                part = rest[0] if rest else "__init__"
                known = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").exists()
                found.append((part if known else "__init__", ""))
            else:
                found.append(("", first))
    return found


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_arrows_point_one_way(path: Path) -> None:
    """A module imports only what its part of the package may know."""
    part = _part_of(path)

    wrong = {target for target, _ in _imports(path) if target and target != part} - ARROWS[part]

    assert wrong == set()


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_outer_library_has_one_door(path: Path) -> None:
    """lightningd's library and the database's are imported only where they are spoken."""
    libraries = {library for _, library in _imports(path)}

    assert {library for library in libraries & set(DOORS) if _part_of(path) not in DOORS[library]} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if _part_of(path) == "core"], ids=_name)
def test_core_is_pure(path: Path) -> None:
    """Decisions do no I/O and read no clock: time and randomness are arguments."""
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }

    assert {library for _, library in _imports(path)} & IMPURE == set()
    assert called & _CLOCKS == set()


def test_every_arrow_is_seen() -> None:
    """The reading of imports works: known arrows of several spellings are found."""
    assert ("core", "") in _imports(PACKAGE / "rpc.py")
    assert ("crash", "") in _imports(PACKAGE / "rpc.py")
    assert ("", "pyln") in _imports(PACKAGE / "rpc.py")
    assert ("store", "") in _imports(PACKAGE / "services" / "books.py")
    assert ("__init__", "") in _imports(PACKAGE / "app.py")
    assert ("errors", "") in _imports(PACKAGE / "core" / "terms.py")


def test_entry_is_the_only_executable_file() -> None:
    """lightningd loads every executable file of a plugin directory: there is one."""
    executable = [
        path
        for path in PACKAGE.parents[1].rglob("*")
        if path.is_file() and path.stat().st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    ]

    assert executable == [PACKAGE.parent / "paycodes.py"]
