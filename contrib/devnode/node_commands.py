"""RPC methods about the node itself, its secrets and its plugins."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import VERSION, invoice_string
from .command import Call, Command, Result
from .errors import Code, InvalidParams, RpcError
from .features import FEATURES
from .indexes import SUBSYSTEMS
from .invoice_string import InvalidInvoice
from .parameters import (
    Parameter,
    one_of,
    optional,
    read_bool,
    read_hex,
    read_index,
    read_string,
    read_u64,
)
from .parameters import usage as parameter_usage

if TYPE_CHECKING:
    from .node import Node

_read_subsystem = one_of(SUBSYSTEMS, "unknown subsystem")


def _getinfo(node: Node, call: Call) -> Result:
    call.checkpoint()
    return {
        "id": node.keys.node_id,
        "alias": "DEVNODE",
        "color": node.keys.node_id[2:8],
        "num_peers": 1,
        "num_pending_channels": 0,
        "num_active_channels": 1,
        "num_inactive_channels": 0,
        "address": [],
        "binding": [],
        "version": VERSION,
        "blockheight": node.blockheight,
        "network": node.network,
        "fees_collected_msat": 0,
        "lightning-dir": str(node.network_dir),
        "our_features": FEATURES,
    }


def _help(node: Node, call: Call) -> Result:
    usages = {name: parameter_usage(command.parameters) for name, command in node.commands.items()}
    for plugin in node.plugins.running:
        if plugin.manifest is not None:
            usages |= {method.name: method.usage for method in plugin.manifest.methods.values()}
    wanted = call.params["command"]
    if wanted is not None and wanted not in usages:
        raise RpcError(Code.METHOD_NOT_FOUND, f"Unknown command {wanted}")
    call.checkpoint()
    names = sorted(usages) if wanted is None else [wanted]
    return {"help": [{"command": f"{name} {usages[name]}"} for name in names], "format-hint": "simple"}


def _makesecret(node: Node, call: Call) -> Result:
    raw, text = call.params["hex"], call.params["string"]
    if raw is not None and text is not None:
        raise InvalidParams("Cannot have both hex and string")
    if raw is None and text is None:
        raise InvalidParams("Must have either hex or string")
    call.checkpoint()
    return {"secret": node.keys.make_secret(raw if raw is not None else text.encode()).hex()}


def _decode(node: Node, call: Call) -> Result:
    try:
        invoice = invoice_string.decode(call.params["string"], node.currency)
    except InvalidInvoice as error:
        raise InvalidParams(f"string: {error}: invalid token (see logs for details)") from error
    call.checkpoint()
    answer: Result = {
        "type": "bolt11 invoice",
        "currency": invoice.currency,
        "created_at": invoice.date,
        "expiry": invoice.expiry,
        "payee": invoice.payee,
        "amount_msat": None if invoice.amount_msat is None else int(invoice.amount_msat),
        "description": invoice.description,
        "description_hash": invoice.description_hash,
        "min_final_cltv_expiry": invoice.min_final_cltv_expiry,
        "payment_secret": invoice.payment_secret,
        "features": None if invoice.features is None else invoice_string.features_hex(invoice.features),
        "payment_hash": invoice.payment_hash,
        "signature": None if invoice.signature is None else invoice_string.der_signature(invoice.signature),
        "valid": True,
    }
    return {name: value for name, value in answer.items() if value is not None}


def _listconfigs(node: Node, call: Call) -> Result:
    call.checkpoint()
    configs: Result = {
        "lightning-dir": {"value_str": str(node.network_dir.parent), "source": "cmdline"},
        "network": {"value_str": node.network, "source": "cmdline"},
        "cltv-delta": {"value_int": node.cltv.delta, "source": "default"},
        "cltv-final": {"value_int": node.cltv.final, "source": "default"},
    }
    for plugin in node.plugins.running:
        if plugin.manifest is None:
            continue
        for option in plugin.manifest.options.values():
            values = plugin.manifest.given.get(option.name)
            value = values[-1] if values else option.default
            if value is None:
                continue
            kind = {"int": "value_int", "bool": "value_bool", "flag": "set"}.get(option.type, "value_str")
            configs[option.name] = {
                kind: value,
                "source": "cmdline" if values else "default",
                "plugin": str(plugin.path),
            }
    wanted = call.params["config"]
    return {"configs": configs if wanted is None else {wanted: configs[wanted]} if wanted in configs else {}}


def _getlog(node: Node, call: Call) -> Result:
    call.checkpoint()
    lines = [{"type": level.upper(), "source": source, "log": text} for level, source, text in node.journal.tail]
    return {"created_at": f"{time.time():.9f}", "bytes_used": 0, "bytes_max": 0, "log": lines}


def _nothing(_node: Node, call: Call) -> Result:
    call.checkpoint()
    return {}


async def _wait(node: Node, call: Call) -> Result:
    call.checkpoint()
    params = call.params
    return await node.indexes.wait(params["subsystem"], params["indexname"], params["nextvalue"])


async def _plugin(node: Node, call: Call) -> Result:
    subcommand = call.params["subcommand"]
    if subcommand == "list":
        call.checkpoint()
        return _plugin_list(node, subcommand)
    if subcommand not in ("start", "stop"):
        raise InvalidParams(f"Unknown subcommand '{subcommand}'")
    name = call.params["plugin"]
    if name is None:
        raise InvalidParams("missing required parameter: plugin")
    if subcommand == "start":
        await _plugin_start(node, call, Path(name))
        return _plugin_list(node, subcommand)
    plugin = node.plugins.find(name)
    if plugin.manifest is not None and not plugin.manifest.dynamic:
        raise InvalidParams(f"{name} cannot be managed when lightningd is up")
    call.checkpoint()
    await node.plugins.stop(plugin)
    return {"command": subcommand, "result": f"Successfully stopped {plugin.name}."}


async def _plugin_start(node: Node, call: Call, path: Path) -> None:
    options: dict[str, list[object]] = {}
    if isinstance(call.raw, dict):
        given = {name: value for name, value in call.raw.items() if name not in ("subcommand", "plugin")}
        options = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    elif len(call.raw) != 2:
        raise InvalidParams("Extra parameters must be in object")
    if not os.access(path, os.X_OK):
        reason = "Permission denied" if path.exists() else "No such file or directory"
        raise InvalidParams(f"{path} is not executable: {reason}")
    if any(plugin.path == path.resolve() for plugin in node.plugins.running):
        raise InvalidParams(f"{path}: already registered")
    call.checkpoint()
    await node.plugins.start(path.resolve(), options, startup=False)


def _plugin_list(node: Node, subcommand: str) -> Result:
    entries = [
        {"name": str(p.path), "active": p.active, "dynamic": p.manifest is None or p.manifest.dynamic}
        for p in node.plugins.running
    ]
    return {"command": subcommand, "plugins": entries}


async def _stop(node: Node, call: Call) -> Result:
    call.checkpoint()
    node.journal.unusual("JSON-RPC shutdown")
    await node.shut_down()
    return {"result": "Shutdown complete"}


COMMANDS = (
    Command("getinfo", _getinfo),
    Command("help", _help, (optional("command", read_string),)),
    Command("stop", _stop),
    Command("makesecret", _makesecret, (optional("hex", read_hex), optional("string", read_string))),
    Command("decode", _decode, (Parameter("string", read_string),)),
    Command("listconfigs", _listconfigs, (optional("config", read_string),)),
    Command("getlog", _getlog, (optional("level", read_string),)),
    Command("batching", _nothing, (Parameter("enable", read_bool),)),
    Command("deprecations", _nothing, (Parameter("enable", read_bool),)),
    Command(
        "wait",
        _wait,
        (
            Parameter("subsystem", _read_subsystem),
            Parameter("indexname", read_index),
            Parameter("nextvalue", read_u64),
        ),
    ),
    Command(
        "plugin",
        _plugin,
        (Parameter("subcommand", read_string), optional("plugin", read_string)),
        allow_extra=True,
    ),
)
