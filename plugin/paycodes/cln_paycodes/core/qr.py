"""QR codes as text for a terminal and as SVG."""

from __future__ import annotations

import io

#: Modules of light around a code: ISO 18004 asks for four.
QUIET_ZONE = 4

#: Two rows of modules in one row of characters; light is drawn and dark left out, as most terminals are dark.
_BLOCKS = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}


def as_text(content: str) -> str:
    import segno

    rows = [list(map(int, row)) for row in segno.make_qr(content).matrix_iter(border=QUIET_ZONE)]
    if len(rows) % 2:
        rows.append([1] * len(rows[0]))
    return "\n".join(
        "".join(_BLOCKS[bool(upper), bool(lower)] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    )


def as_svg(content: str, *, title: str | None = None) -> str:
    """An SVG element without a size of its own: it is as large as the place it is put in."""
    import segno

    out = io.BytesIO()
    segno.make_qr(content).save(
        out,
        kind="svg",
        border=QUIET_ZONE,
        dark="#000",
        light="#fff",
        xmldecl=False,
        omitsize=True,
        nl=False,
        title=title,
        svgclass="qr",
        lineclass=None,
    )
    return out.getvalue().decode()


def payment_uri(text: str) -> str:
    """`lightning:` and a bech32 text, in the upper case that makes the smallest code."""
    return f"lightning:{text}".upper()
