"""Where the world finds a paycode: every public address that is made of `paycodes-url`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import BadParameter
from .lnurl import encode_lnurl
from .records import Paycode

URL_CHARS = 256

#: BIP 353: where in a domain's DNS the payment instructions of its users are.
_BIP353 = "user._bitcoin-payment"


def check_public_url(url: str) -> str:
    """The base URL without a slash at its end; BadParameter unless wallets would follow it (LUD-01)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadParameter("paycodes-url: it cannot be parsed; give for example https://shop.example") from None
    host = parts.hostname or ""
    if not host or len(url) > URL_CHARS or not url.isascii() or not url.isprintable() or " " in url or port == 0:
        raise BadParameter("paycodes-url: a host is missing or wrong; give for example https://shop.example")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadParameter("paycodes-url: leave out user, ? and #")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_private(host)):
        raise BadParameter("paycodes-url: give https:// (http:// only for .onion and localhost: LUD-01)")
    return url.rstrip("/")


def _is_private(host: str) -> bool:
    if host.endswith(".onion") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Links:
    #: `scheme://host[:port][/path]`, no slash at its end
    base: str

    @property
    def domain(self) -> str | None:
        """What stands behind the @ of a lightning address: LUD-16 looks for it at the root of a host."""
        parts = urlsplit(self.base)
        return None if parts.path else parts.netloc

    def lnurlp(self, paycode: Paycode) -> str:
        return f"{self.base}/lnurlp/{paycode.paycode_id}"

    def callback(self, paycode: Paycode) -> str:
        return f"{self.lnurlp(paycode)}/callback"

    def verify(self, payment_hash: str) -> str:
        return f"{self.base}/verify/{payment_hash}"

    def page(self, paycode: Paycode) -> str:
        return f"{self.base}/pay/{paycode.terms.user or paycode.paycode_id}"

    def lightning_address(self, paycode: Paycode) -> str | None:
        """LUD-16; None for a code without a user, or below a path."""
        if paycode.terms.user is None or self.domain is None:
            return None
        return f"{paycode.terms.user}@{self.domain}"

    def lud17(self, paycode: Paycode) -> str:
        """LUD-17: the same place under the scheme that opens a wallet."""
        return "lnurlp://" + self.lnurlp(paycode).split("://", 1)[1]

    def lnurl(self, paycode: Paycode) -> str:
        return encode_lnurl(self.lnurlp(paycode))

    def answer(self, paycode: Paycode, bolt12: str | None) -> dict[str, object]:
        """The fields that a paycode in a result has because of its public address."""
        fields: dict[str, object] = {
            "lnurl": self.lnurl(paycode),
            "lnurlp": self.lud17(paycode),
            "lightning_address": self.lightning_address(paycode),
            "url": self.page(paycode),
            "bip353": self._bip353(paycode, bolt12),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _bip353(self, paycode: Paycode, bolt12: str | None) -> dict[str, str] | None:
        """The DNS record to publish (in a signed zone) so that `user@domain` finds the offer."""
        host = urlsplit(self.base).hostname
        if paycode.terms.user is None or bolt12 is None or host is None:
            return None
        return {
            "name": f"{paycode.terms.user}.{_BIP353}.{host}.",
            "txt": f"bitcoin:?lno={bolt12}",
        }
