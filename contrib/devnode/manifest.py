"""The manifest: what a plugin says of itself in answer to ``getmanifest``, and the options it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Hooks of lightningd v26.06. devnode calls ``invoice_payment`` and ``htlc_accepted``; the others never occur
#: here.
HOOKS = frozenset(
    {
        "commitment_revocation",
        "custommsg",
        "db_write",
        "htlc_accepted",
        "invoice_payment",
        "onion_message_recv",
        "onion_message_recv_secret",
        "openchannel",
        "openchannel2",
        "openchannel2_changed",
        "openchannel2_sign",
        "peer_connected",
        "rbf_channel",
        "recover",
        "rpc_command",
    }
)

_TYPES = frozenset({"string", "string-conceal", "int", "bool", "flag"})


class BadManifest(ValueError):
    """lightningd would kill the plugin for this."""


@dataclass(frozen=True)
class Option:
    name: str
    type: str
    default: Any
    multi: bool
    dynamic: bool


@dataclass(frozen=True)
class Method:
    name: str
    usage: str


@dataclass(frozen=True)
class Manifest:
    dynamic: bool
    can_check: bool
    options: dict[str, Option]
    methods: dict[str, Method]
    hooks: tuple[str, ...]
    subscriptions: frozenset[str]
    topics: frozenset[str]
    disabled: str | None = None
    #: Values given on the command line or to ``plugin start``, as they were given.
    given: dict[str, list[Any]] = field(default_factory=dict)


def parse(result: Any) -> Manifest:
    """Raises BadManifest with lightningd's words (``plugin_parse_getmanifest_response``)."""
    if not isinstance(result, dict):
        raise BadManifest(f"Invalid/missing result tok in '{result}'")
    try:
        return _parse(result)
    except (AttributeError, KeyError, TypeError) as error:
        raise BadManifest(f"malformed manifest: {error!r}") from error


def _parse(result: dict[str, Any]) -> Manifest:
    disabled = result.get("disable")
    if disabled is None and "options" not in result:
        raise BadManifest('"result.options" was not found in the manifest')
    if disabled is None and "rpcmethods" not in result:
        raise BadManifest('"result.rpcmethods" missing')
    return Manifest(
        dynamic=bool(result.get("dynamic", True)),
        can_check=bool(result.get("cancheck", False)),
        options={option.name: option for option in map(_option, result.get("options", []))},
        methods={method.name: method for method in map(_method, result.get("rpcmethods", []))},
        hooks=tuple(_hook(entry) for entry in result.get("hooks", [])),
        subscriptions=frozenset(result.get("subscriptions", [])),
        topics=frozenset(entry["method"] for entry in result.get("notifications", [])),
        disabled=disabled,
    )


def _option(entry: dict[str, Any]) -> Option:
    for required in ("name", "description"):
        if not isinstance(entry.get(required), str):
            raise BadManifest(f'An option is missing either "name", "description" or "type": {entry}')
    kind = entry.get("type", "string")
    if kind not in _TYPES:
        raise BadManifest(f"Unknown type {kind} for option {entry['name']}")
    return Option(
        name=entry["name"],
        type=kind,
        default=entry.get("default"),
        multi=bool(entry.get("multi", False)),
        dynamic=bool(entry.get("dynamic", False)),
    )


def _method(entry: dict[str, Any]) -> Method:
    if not isinstance(entry.get("name"), str):
        raise BadManifest(f'rpcmethod does not have a string "name": {entry}')
    if not isinstance(entry.get("usage"), str):
        raise BadManifest('"usage" not provided by plugin')
    return Method(entry["name"], entry["usage"])


def _hook(entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else entry
    if name not in HOOKS:
        raise BadManifest(f"Unknown hook name {name}")
    return str(name)


def option_values(manifest: Manifest) -> dict[str, Any]:
    """``options`` of the ``init`` call: what was given, else the default; neither: absent."""
    values: dict[str, Any] = {}
    for option in manifest.options.values():
        given = manifest.given.get(option.name)
        if given is None:
            if option.default is not None:
                default = typed(option, option.default)
                values[option.name] = [default] if option.multi else default
            continue
        typed_values = [typed(option, value) for value in given]
        values[option.name] = typed_values if option.multi else typed_values[-1]
    return values


def typed(option: Option, value: Any) -> Any:
    """One value as JSON; raises BadManifest with the option's name if it does not have the option's type."""
    if option.type == "flag" and value is None:
        return True
    if value is None:
        raise BadManifest(f"--{option.name}: requires an argument")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if option.type == "int":
        try:
            return int(text)
        except ValueError:
            raise BadManifest(f"--{option.name}: '{text}' is not a number") from None
    if option.type in ("bool", "flag"):
        if text in ("true", "1", "yes", "on"):
            return True
        if text in ("false", "0", "no", "off"):
            return False
        raise BadManifest(f"--{option.name}: Invalid argument '{text}'")
    return text
