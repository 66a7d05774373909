"""The frames of lightningd's JSON-RPC: messages that an empty line ends, in a stream that is cut anywhere."""

from __future__ import annotations

END = b"\n\n"


class Frames:
    """Puts whole messages together from what arrives; each byte is looked at once."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def of(self, chunk: bytes) -> list[bytes]:
        """The messages that `chunk` completes, without their ends."""
        # The first half of an end may be the last that was looked at.
        scanned = max(0, len(self._buffer) - 1)
        self._buffer += chunk
        end = self._buffer.rfind(END, scanned)
        if end < 0:
            return []
        whole = bytes(self._buffer[:end])
        del self._buffer[: end + len(END)]
        return [message for message in whole.split(END) if message]
