"""All measurements, in the order of the table."""

from __future__ import annotations

from . import callbacks, flood, forwarding, invoice_strings, issuing, outbox, paying, reconciling, starting, telling

MEASUREMENTS = (
    *issuing.MEASUREMENTS,
    *callbacks.MEASUREMENTS,
    *paying.MEASUREMENTS,
    *telling.MEASUREMENTS,
    *reconciling.MEASUREMENTS,
    *starting.MEASUREMENTS,
    *forwarding.MEASUREMENTS,
    *flood.MEASUREMENTS,
    *outbox.MEASUREMENTS,
    *invoice_strings.MEASUREMENTS,
)
