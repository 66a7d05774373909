"""The datastore: keyed blobs with a generation, kept for plugins in the node's database (``datastore.c``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .command import Call, Command, Result
from .errors import Code, InvalidParams, RpcError
from .parameters import (
    Parameter,
    one_of,
    optional,
    read_escaped_string,
    read_hex,
    read_u64,
    refuse,
    token,
)

if TYPE_CHECKING:
    from .node import Node
    from .store import Store

Key = tuple[str, ...]

_MODES = ("must-create", "must-replace", "create-or-replace", "must-append", "create-or-append")
_read_mode = one_of(
    _MODES,
    "should be 'must-create', 'must-replace', 'create-or-replace', 'must-append', or 'create-or-append'",
)


def _read_key(name: str, value: Any) -> Key:
    if isinstance(value, list):
        if not value:
            raise refuse(name, "should not be empty")
        if any(isinstance(part, (list, dict)) for part in value):
            raise refuse(name, "should be string")
        return tuple(token(part) for part in value)
    if isinstance(value, dict):
        raise refuse(name, "should be string or array")
    return (token(value),)


def _blob(key: Key) -> bytes:
    """How lightningd stores a key: joined with NUL, so that children sort right after their parent."""
    return b"\0".join(part.encode() for part in key)


def _key(blob: bytes) -> Key:
    return tuple(part.decode() for part in blob.split(b"\0"))


def _entry(key: Key, data: bytes | None, generation: int = 0) -> Result:
    entry: Result = {"key": list(key)}
    if data is None:
        return entry
    entry["generation"] = generation
    entry["hex"] = data.hex()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return entry
    if "\0" not in text:
        entry["string"] = text
    return entry


def _get(store: Store, key: Key) -> tuple[bytes, int] | None:
    row = store.row("SELECT data, generation FROM datastore WHERE key = ?", _blob(key))
    return None if row is None else (row["data"], row["generation"])


def _has_children(store: Store, key: Key) -> bool:
    first = _blob(key) + b"\0"
    return store.row("SELECT 1 FROM datastore WHERE key >= ? AND key < ?", first, _blob(key) + b"\1") is not None


def _put(node: Node, call: Call) -> Result:
    key, mode, generation = call.params["key"], call.params["mode"], call.params["generation"]
    data = _given_data(call)
    must_exist = mode.startswith("must-") and mode != "must-create"
    if generation is not None and not must_exist:
        raise InvalidParams("generation only valid with must-replace or must-append")
    store = node.store
    found = _get(store, key)
    if found is None:
        _check_place(store, key)
        if must_exist:
            raise RpcError(Code.DATASTORE_UPDATE_DOES_NOT_EXIST, "Key does not exist")
    elif mode == "must-create":
        raise RpcError(Code.DATASTORE_UPDATE_ALREADY_EXISTS, "Key already exists")
    if generation is not None and found is not None and found[1] != generation:
        raise RpcError(Code.DATASTORE_UPDATE_WRONG_GENERATION, "generation is different")
    call.checkpoint()

    if found is None:
        store.execute("INSERT INTO datastore VALUES (?, ?, 0)", _blob(key), data)
        return _entry(key, data, 0)
    if mode.endswith("append"):
        data = found[0] + data
    store.execute("UPDATE datastore SET data = ?, generation = ? WHERE key = ?", data, found[1] + 1, _blob(key))
    return _entry(key, data, found[1] + 1)


def _check_place(store: Store, key: Key) -> None:
    """A key has a value or children, not both."""
    if _has_children(store, key):
        raise RpcError(Code.DATASTORE_UPDATE_HAS_CHILDREN, "Key has children already")
    for length in range(1, len(key)):
        if _get(store, key[:length]) is not None:
            parent = ",".join(key[:length])
            raise RpcError(Code.DATASTORE_UPDATE_NO_CHILDREN, f"Parent key [{parent}] exists")


def _given_data(call: Call) -> bytes:
    text, raw = call.params["string"], call.params["hex"]
    if text is not None and raw is not None:
        raise InvalidParams("Cannot have both hex and string")
    if text is None and raw is None:
        raise InvalidParams("Must have either hex or string")
    return bytes(raw) if raw is not None else str(text).encode()


def _list(node: Node, call: Call) -> Result:
    call.checkpoint()
    prefix: Key = call.params["key"] or ()
    entries: list[Result] = []
    summarised: Key | None = None
    for row in node.store.rows("SELECT * FROM datastore WHERE key >= ? ORDER BY key", _blob(prefix)):
        key = _key(row["key"])
        if key[: len(prefix)] != prefix:
            # Keys that merely begin with the same letters sort among the children of the prefix.
            continue
        if len(key) <= len(prefix) + 1:
            entries.append(_entry(key, row["data"], row["generation"]))
        elif key[: len(prefix) + 1] != summarised:
            summarised = key[: len(prefix) + 1]
            entries.append(_entry(summarised, None))
    return {"datastore": entries}


def _delete(node: Node, call: Call) -> Result:
    key, generation = call.params["key"], call.params["generation"]
    found = _get(node.store, key)
    if found is None:
        raise RpcError(Code.DATASTORE_DEL_DOES_NOT_EXIST, "Key does not exist")
    if generation is not None and found[1] != generation:
        raise RpcError(Code.DATASTORE_DEL_WRONG_GENERATION, "generation is different")
    call.checkpoint()
    node.store.execute("DELETE FROM datastore WHERE key = ?", _blob(key))
    return _entry(key, *found)


COMMANDS = (
    Command(
        "datastore",
        _put,
        (
            Parameter("key", _read_key),
            optional("string", read_escaped_string),
            optional("hex", read_hex),
            optional("mode", _read_mode, "must-create"),
            optional("generation", read_u64),
        ),
    ),
    Command("listdatastore", _list, (optional("key", _read_key),)),
    Command("deldatastore", _delete, (Parameter("key", _read_key), optional("generation", read_u64))),
)
