"""QR codes, read back by another program."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from cln_paycodes.core.qr import as_svg, as_text, payment_uri

_ROWS = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}


@pytest.mark.parametrize("length", [10, 190, 400])
def test_a_terminal_shows_a_code_that_can_be_scanned(length: int) -> None:
    """OpenCV reads the blocks as a camera would."""
    code = payment_uri("lnurl1" + "q" * length)
    lines = as_text(code).splitlines()
    pixels = np.array([[_ROWS[c][half] for c in line] for line in lines for half in (0, 1)], dtype=np.uint8)
    image = cv2.resize(pixels, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST)

    assert cv2.QRCodeDetectorAruco().detectAndDecode(image)[0] == code


def test_an_svg_has_its_title_escaped() -> None:
    """A label is text, never markup."""
    svg = as_svg("LIGHTNING:X", title='<script>"&')

    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg
