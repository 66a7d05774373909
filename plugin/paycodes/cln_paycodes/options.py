"""The plugin's options, readable by any Python 3 without a module beside: `paycodes.py` declares them too.

A plugin that declines to work has to know them as well: lightningd does not start with an option that nobody knows.
"""

from __future__ import annotations

#: Name, default and description of each; the default's type is the option's.
OPTIONS: tuple[tuple[str, str | int, str], ...] = (
    ("paycodes-db", "", "the sidecar database (default: paycodes.sqlite3 in the node's directory)"),
    (
        "paycodes-reconcile-interval",
        600,
        "seconds between two runs of reconcile that nothing else asked for",
    ),
    (
        "paycodes-outbox-retention",
        30 * 24 * 3600,
        "seconds for which events that every endpoint has acknowledged are kept, 0 for ever",
    ),
    ("paycodes-listen", "", "address:port for wallets and payers over HTTP (default: none)"),
    ("paycodes-url", "", "the public base URL of paycodes-listen, as wallets reach it"),
    ("paycodes-trust-proxy", "", "addresses of proxies whose X-Forwarded-For counts, with commas"),
    (
        "paycodes-rate-limit",
        60,
        "invoices a minute that one address may ask for over HTTP, 0 for no limit",
    ),
    ("paycodes-metrics-listen", "", "address:port for Prometheus metrics (default: none)"),
)


def option_type(default: str | int) -> str:
    """As a manifest names it."""
    return "int" if isinstance(default, int) else "string"
