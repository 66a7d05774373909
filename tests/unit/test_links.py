"""Public addresses of codes."""

from __future__ import annotations

import pytest
from cln_paycodes.core.links import Links, check_public_url
from cln_paycodes.core.records import Paycode
from cln_paycodes.errors import BadParameter
from cln_paycodes.store import paycodes
from samples import add_paycode, memory_sidecar


def paycode_of(user: str | None) -> Paycode:
    with memory_sidecar() as sql:
        found = paycodes.by_id(sql, add_paycode(sql, "shop", user=user))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example:8443/pay",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://abcdefghij.onion",
    ],
)
def test_urls_that_wallets_follow(url: str) -> None:
    """https anywhere, http for onion and the machine itself; a slash at the end makes no difference."""
    assert check_public_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        "shop.example",
        "http://shop.example",
        "http://10.0.0.1",
        "ftp://shop.example",
        "https://",
        "https://user:pw@shop.example",
        "https://shop.example?x=1",
        "https://shop.example/#x",
        "https://shop.example:0",
        "https://shop.example:99999",
        "https://shöp.example",
        "https://shop .example",
        "https://" + "x" * 300,
    ],
)
def test_urls_that_they_do_not(url: str) -> None:
    """The error names the option."""
    with pytest.raises(BadParameter, match="paycodes-url"):
        check_public_url(url)


def test_a_code_without_a_user_has_no_address() -> None:
    """It has an LNURL and a page all the same."""
    paycode = paycode_of(None)
    answer = Links("https://shop.example").answer(paycode, None)

    assert set(answer) == {"lnurl", "lnurlp", "url"}
    assert answer["url"] == f"https://shop.example/pay/{paycode.paycode_id}"


def test_below_a_path_there_is_no_lightning_address() -> None:
    """LUD-16 looks at the root of a host only."""
    answer = Links("https://shop.example/pay").answer(paycode_of("anna"), None)

    assert "lightning_address" not in answer
    assert answer["url"] == "https://shop.example/pay/pay/anna"


def test_the_dns_record_of_bip_353() -> None:
    """Name and text to publish, once there is an offer."""
    answer = Links("https://shop.example:8443").answer(paycode_of("anna"), "lno1abc")

    assert answer["bip353"] == {
        "name": "anna.user._bitcoin-payment.shop.example.",
        "txt": "bitcoin:?lno=lno1abc",
    }
