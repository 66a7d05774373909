#!/usr/bin/env python3
"""The paycodes plugin, which also writes down how long each `invoice_payment` hook took: a line of seconds each in
`hooks.txt`, in the node's directory.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugin" / "paycodes"))

from cln_paycodes.rpc import PaycodesPlugin


class TimedPlugin(PaycodesPlugin):
    def _hook(self, request: Any) -> None:
        request.began = time.perf_counter()
        super()._hook(request)

    def _answer(self, request: Any, result: Any) -> None:
        super()._answer(request, result)
        if request.method == "invoice_payment":
            with Path("hooks.txt").open("a") as file:
                file.write(f"{time.perf_counter() - request.began}\n")


if __name__ == "__main__":
    TimedPlugin().run()
