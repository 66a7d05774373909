"""Which URLs can be an endpoint."""

from __future__ import annotations

import pytest
from cln_paycodes.core.urls import check_endpoint_url
from cln_paycodes.errors import BadParameter
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/paid",
        "http://127.0.0.1:8080/",
        "http://[::1]:8080/paid",
        "https://shop.example",
        "https://shop.example:443/paid?shop=1&till=2",
        "HTTPS://SHOP.EXAMPLE/paid",
        "http://localhost/" + "x" * 2031,
    ],
)
def test_http_url_with_a_host_is_taken(url: str) -> None:
    """An http or https URL is kept as it was given."""
    assert check_endpoint_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example/paid",
        "//shop.example/paid",
        "ftp://shop.example/paid",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///paid",
        "http://:80/paid",
        "http:shop.example",
        "https://shop.example:0/paid",
        "https://shop.example:65536/paid",
        "https://shop.example:port/paid",
        "https://shop.example:-1/paid",
        "http://[::1/paid",
        "https://user@shop.example/paid",
        "https://user:password@shop.example/paid",
        "https://:password@shop.example/paid",
        "https://shop.example/paid#part",
        "https://shop.example/pa id",
        "https://shop.example/pa\tid",
        "https://shop.example/pa\r\nHost: other",
        "https://shop.example/\0",
        "https://shop.example/\ud800",
        "https://shop.example/\u202e",
        "https://shop.example/" + "x" * 2048,
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    """What is no http or https URL with a host, or holds a password, is refused by the parameter's name."""
    with pytest.raises(BadParameter, match=r"^url: "):
        check_endpoint_url(url)


def test_url_that_comes_by_another_name_is_refused_by_that() -> None:
    """The caller reads the name of the parameter that he gave."""
    with pytest.raises(BadParameter, match=r"^webhook: give an http:// or https:// URL"):
        check_endpoint_url("ftp://shop.example/paid", name="webhook")


def test_password_is_not_repeated() -> None:
    """The refusal of a URL with a password does not show it."""
    with pytest.raises(BadParameter) as refused:
        check_endpoint_url("https://user:hunter2@shop.example/paid")

    assert "hunter2" not in refused.value.message


@given(url=st.text(st.characters(exclude_categories=())) | st.text().map(lambda tail: f"http://{tail}"))
def test_whatever_the_text_the_answer_is_yes_or_bad_parameter(url: str) -> None:
    """No text leads to another error."""
    try:
        taken = check_endpoint_url(url)
    except BadParameter:
        return

    assert taken == url
