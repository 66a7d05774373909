"""Which URLs can be an endpoint, and what of them may be seen."""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import SplitResult, urlsplit

from ..errors import BadParameter
from .terms import check_text

URL_CHARS = 2048

#: The first part of the subjects that a NATS endpoint publishes to, when its URL has no path.
DEFAULT_SUBJECT = "paycodes"

#: Tokens of a NATS subject without wildcards.
_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)


class EndpointKind(str, Enum):
    WEBHOOK = "webhook"
    NATS = "nats"


_KINDS = {
    "http": EndpointKind.WEBHOOK,
    "https": EndpointKind.WEBHOOK,
    "nats": EndpointKind.NATS,
    "tls": EndpointKind.NATS,
}


def check_endpoint_url(url: str, *, name: str = "url") -> str:
    """The URL as it may be seen: without the credentials that one of NATS may have (`credentials_of`).

    BadParameter, which begins with `name` and never repeats the URL, unless it is one of http, https, nats or tls with
    a host.
    """
    check_text(name, url, most_chars=URL_CHARS)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadParameter(f"{name}: it cannot be parsed; give http:// or https://, a host, and a path") from None
    if parts.scheme not in _KINDS:
        raise BadParameter(f"{name}: give an http:// or https:// URL, or nats:// or tls:// for a JetStream")
    if not parts.hostname or " " in url or port == 0:
        raise BadParameter(f"{name}: a host is missing or wrong; give for example https://shop.example/paid")
    if parts.fragment:
        raise BadParameter(f"{name}: leave out the part after #, it is never sent")
    if _KINDS[parts.scheme] is EndpointKind.NATS:
        _check_subject(parts, name)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if "@" in parts.netloc:
        raise BadParameter(f"{name}: leave out user and password; the receiver knows us by the signature")
    return url


def credentials_of(url: str) -> str | None:
    """`user:password` or the token as it stands in a NATS URL; None when there is none."""
    return urlsplit(url).netloc.rpartition("@")[0] or None


def kind_of(public_url: str) -> EndpointKind:
    """The kind of an endpoint whose URL was checked when it was added."""
    return _KINDS[urlsplit(public_url).scheme]


def subject_of(public_url: str) -> str:
    """The first part of the subjects that a NATS endpoint publishes to."""
    return urlsplit(public_url).path.strip("/") or DEFAULT_SUBJECT


def _check_subject(parts: SplitResult, name: str) -> None:
    if parts.query:
        raise BadParameter(f"{name}: a NATS URL takes no part after ?")
    subject = parts.path.strip("/")
    if subject and not _SUBJECT.fullmatch(subject):
        raise BadParameter(
            f"{name}: the path is the subject's first part, letters, digits, - and _ between dots, for example"
            " nats://stream.example:4222/shop.paycodes"
        )
