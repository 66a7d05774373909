#!/usr/bin/env python3
"""What people write first: a script that posts the node's notification of a payment, once, and hopes.

It also writes down when the node told of each payment, in `told.txt` in the node's directory, whether or not it posts.
"""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from pyln.client import Plugin

plugin = Plugin()
plugin.url = ""


@plugin.method("bench-post")  # type: ignore[untyped-decorator]  # pyln has no types
def post(plugin: Plugin, url: str = "") -> dict[str, str]:
    """To where from now on; nowhere if it is empty."""
    plugin.url = url
    return {"url": url}


@plugin.subscribe("invoice_payment")  # type: ignore[untyped-decorator]  # pyln has no types
def paid(plugin: Plugin, invoice_payment: dict[str, Any], **_: Any) -> None:
    now = time.monotonic()
    if plugin.url:
        urllib.request.urlopen(urllib.request.Request(plugin.url, json.dumps(invoice_payment).encode())).close()
    with Path("told.txt").open("a") as file:
        file.write(f"{invoice_payment['label']} {now}\n")


if __name__ == "__main__":
    plugin.run()
