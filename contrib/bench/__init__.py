"""The benchmark suite: every figure beside its reference, both measured in turns in one run.

python -m contrib.bench --rows issue-1,callback-32 --rounds 3 --node regtest
"""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# What is measured, and the harness, are found without being installed.
sys.path[:0] = [str(REPOSITORY / "contrib"), str(REPOSITORY / "plugin" / "paycodes")]
