#!/usr/bin/env python3
"""What a plugin costs that does nothing, and one that issues in the plain way: a pyln method that calls `invoice`."""

from __future__ import annotations

import os
from typing import Any

from pyln.client import Plugin

plugin = Plugin()


@plugin.method("bench-noop")  # type: ignore[untyped-decorator]  # pyln has no types
def noop(**_: Any) -> dict[str, int]:
    return {"pid": os.getpid()}


@plugin.method("bench-invoice")  # type: ignore[untyped-decorator]  # pyln has no types
def invoice(plugin: Plugin, amount_msat: int, label: str, description: str, expiry: int) -> Any:
    return plugin.rpc.invoice(amount_msat, label, description, expiry=expiry)


if __name__ == "__main__":
    plugin.run()
