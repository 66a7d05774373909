"""Which URLs can be an endpoint."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..errors import BadParameter
from .terms import check_text

URL_CHARS = 2048


def check_endpoint_url(url: str) -> str:
    """The URL, when it is http or https with a host and without credentials; else BadParameter."""
    check_text("url", url, most_chars=URL_CHARS)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadParameter("url: it cannot be parsed; give http:// or https://, a host, and a path") from None
    if parts.scheme not in ("http", "https"):
        raise BadParameter("url: give an http:// or https:// URL")
    if not parts.hostname or " " in url or port == 0:
        raise BadParameter("url: a host is missing or wrong; give for example https://shop.example/paid")
    if parts.username is not None or parts.password is not None:
        raise BadParameter("url: leave out user and password; the receiver knows us by the signature")
    if parts.fragment:
        raise BadParameter("url: leave out the part after #, it is never sent")
    return url
