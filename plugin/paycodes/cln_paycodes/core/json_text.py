"""JSON as this plugin writes it: without spaces, and with text in UTF-8 as it is."""

from __future__ import annotations

import json

#: Made once: `json.dumps` with settings of its own makes an encoder for each call.
compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
