"""The page for people, in a real browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from network import KINDS
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from serving import Shop, opened_shop

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
PHONE = (375, 812)

#: Without these, Chromium talks to its makers, and cannot run as root.
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"
)


@pytest.fixture(scope="module", params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory = tmp_path_factory.mktemp(f"page-{request.param}")
    with opened_shop(request.param, directory, paycodes_rate_limit=0) as opened:
        yield opened


@pytest.fixture
def open_browser(tmp_path: Path) -> Iterator[Callable[..., Chrome]]:
    """Opens browsers the size of a phone, and closes them after the test."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("not on PATH: chromium and chromedriver (packages chromium and chromium-driver)")
    opened: list[Chrome] = []

    def open_one(*, dark: bool = False, script: bool = True) -> Chrome:
        options = Options()
        options.binary_location = CHROMIUM
        for flag in (*_FLAGS.split(), f"--user-data-dir={tmp_path}/browser-{len(opened)}"):
            options.add_argument(flag)
        if not script:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        browser = Chrome(options=options, service=Service(DRIVER))
        opened.append(browser)
        width, height = PHONE
        metrics = {"width": width, "height": height, "deviceScaleFactor": 3, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        return browser

    yield open_one
    for browser in opened:
        browser.quit()


def order(browser: Chrome, amount: str, comment: str | None = None) -> None:
    """Type an amount, and press Enter."""
    field = browser.find_element(By.ID, "amount")
    field.clear()
    if comment is not None:
        browser.find_element(By.ID, "comment").send_keys(comment)
    field.send_keys(amount, Keys.ENTER)


def scanned(browser: Chrome) -> str:
    """What a camera reads off the screen."""
    image = cv2.imdecode(np.frombuffer(browser.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
    return str(cv2.QRCodeDetectorAruco().detectAndDecode(image)[0])


def wait_for(browser: Chrome, css: str, timeout_s: float = 20.0) -> Any:
    waiting = WebDriverWait(browser, timeout_s, 0.02, ignored_exceptions=[StaleElementReferenceException])
    return waiting.until(lambda b: b.find_elements(By.CSS_SELECTOR, css), f"no {css}")[0]


def complaints(browser: Chrome) -> list[str]:
    """What the browser blocked or missed; a form that was refused (422) is meant."""
    return [entry["message"] for entry in browser.get_log("browser") if "422" not in entry["message"]]


def luminance(color: str) -> float:
    """WCAG 2: relative luminance of `rgb(r, g, b)`."""
    channels = [int(part) / 255 for part in color.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_person_types_an_amount_scans_pays_and_sees_it_paid(
    shop: Shop, open_browser: Callable[..., Chrome], unique: str, dark: bool
) -> None:
    """From the code to "Paid", without a reload by hand; the code on the screen is the invoice that is paid."""
    paycode = shop.create(unique, user=unique, description="The Tea House\nSencha and more")
    browser = open_browser(dark=dark)
    browser.get(paycode["url"])
    code = scanned(browser)
    order(browser, "21000", comment="two cups")
    wait_for(browser, "#live")
    invoice = scanned(browser)
    link = browser.find_element(By.CSS_SELECTOR, "a.button").get_attribute("href")
    live_at = browser.find_element(By.CSS_SELECTOR, "#live[data-state=waiting]").text
    shop.network.pay(invoice.removeprefix("LIGHTNING:").lower())
    (row,) = shop.call("listpaycodeinvoices", unique)["invoices"]
    wait_for(browser, "#state[data-state=paid]")

    assert code == f"LIGHTNING:{paycode['lnurl']}"
    assert link == f"lightning:{row['bolt11']}" == invoice.lower()
    assert "Waiting for payment" in live_at
    assert (row["amount_msat"], row["comment"]) == (21_000_000, "two cups")
    assert shop.wait_for_event(row["payment_hash"])["comment"] == "two cups"
    assert browser.title == "Paid: 21,000 sat"
    assert complaints(browser) == []


def test_the_page_says_paid_within_a_second(shop: Shop, open_browser: Callable[..., Chrome], unique: str) -> None:
    """From the node's own time of the payment to the sign on the page, as coarse as that time is."""
    browser = open_browser()
    browser.get(shop.create(unique)["url"])
    order(browser, "1")
    wait_for(browser, "#live")
    (row,) = shop.call("listpaycodeinvoices", unique)["invoices"]
    shop.network.pay(row["bolt11"])
    wait_for(browser, "#state[data-state=paid]")
    seen_at = time.time()
    (row,) = shop.call("listpaycodeinvoices", unique)["invoices"]

    assert seen_at - row["paid_at"] < 2


def test_without_javascript_all_but_the_live_part_works(
    shop: Shop, open_browser: Callable[..., Chrome], unique: str
) -> None:
    """Form, invoice and code need no script; the page asks again by itself, and a reload shows the payment."""
    browser = open_browser(script=False)
    browser.get(shop.create(unique)["url"])
    order(browser, "5")
    wait_for(browser, "#live")
    invoice = scanned(browser)
    refresh = browser.find_elements(By.CSS_SELECTOR, "meta[http-equiv=refresh]")
    shop.network.pay(invoice.removeprefix("LIGHTNING:").lower())
    shop.wait_for_event(shop.call("listpaycodeinvoices", unique)["invoices"][0]["payment_hash"])
    browser.refresh()

    assert len(refresh) == 1
    assert wait_for(browser, "#state[data-state=paid]")


def test_a_wrong_amount_is_explained_and_kept(shop: Shop, open_browser: Callable[..., Chrome], unique: str) -> None:
    """What was typed stays, with a message that a screen reader gets, and the field has the focus."""
    browser = open_browser()
    browser.get(shop.create(unique, min_msat=5000, max_msat=100_000)["url"])
    order(browser, "101", comment="hello")
    problem = wait_for(browser, "#problem[role=alert]")
    field = browser.switch_to.active_element

    assert "From 5 to 100 sat." in problem.text
    assert field.get_attribute("id") == "amount"
    assert field.get_attribute("value") == "101"
    assert field.get_attribute("aria-invalid") == "true"
    assert browser.find_element(By.ID, "comment").get_attribute("value") == "hello"
    assert shop.issued(unique) == 0


def test_a_code_with_one_price_asks_for_no_amount(shop: Shop, open_browser: Callable[..., Chrome], unique: str) -> None:
    """The price is shown, and the button alone gives an invoice of it."""
    browser = open_browser()
    browser.get(shop.create(unique, min_msat=2_100_500, max_msat=2_100_500)["url"])
    shown = browser.find_element(By.CSS_SELECTOR, ".amount").text
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    wait_for(browser, "#live")
    (row,) = shop.call("listpaycodeinvoices", unique)["invoices"]

    assert shown.startswith("2,100.5")
    assert row["amount_msat"] == 2_100_500


def test_an_expired_invoice_leads_to_a_new_one(shop: Shop, open_browser: Callable[..., Chrome], unique: str) -> None:
    """The page notices by itself, and its button begins anew."""
    browser = open_browser()
    url = shop.create(unique, expiry=3)["url"]
    browser.get(url)
    order(browser, "5")
    wait_for(browser, "#state[data-state=expired]")
    browser.find_element(By.CSS_SELECTOR, "a.button").click()

    assert wait_for(browser, "#amount")
    assert browser.current_url == url


def test_closed_and_unknown_codes_say_so(shop: Shop, open_browser: Callable[..., Chrome], unique: str) -> None:
    """With the right status for machines and a sentence for people."""
    url = shop.create(unique)["url"]
    shop.call("paycode-disable", unique)
    browser = open_browser()
    browser.get(url)
    closed = browser.find_element(By.TAG_NAME, "h1").text
    statuses = [shop.http.get(url).status_code, shop.http.get("/pay/nobody").status_code]

    assert closed == "Closed"
    assert statuses == [403, 404]
    assert shop.http.get("/pay/nobody").headers["content-security-policy"].startswith("default-src 'none'")


def test_what_an_operator_writes_is_text(shop: Shop, open_browser: Callable[..., Chrome], unique: str) -> None:
    """Markup in a description is shown, not run."""
    browser = open_browser()
    browser.get(shop.create(unique, description="<script>document.title='x'</script>\n<img src=x>")["url"])

    assert browser.find_element(By.TAG_NAME, "h1").text.startswith("<script>")
    assert browser.title != "x"
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert complaints(browser) == []


def test_keyboard_and_screen_reader_get_everywhere(
    shop: Shop, open_browser: Callable[..., Chrome], unique: str
) -> None:
    """Tab reaches all that can be used, in the order in which it stands there; all of it has a name."""
    browser = open_browser()
    browser.get(shop.create(unique)["url"])
    reached = []
    for _ in range(7):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        element = browser.switch_to.active_element
        reached.append((element.aria_role, bool(element.accessible_name)))

    assert [name for name, _ in reached[:4]] == ["link", "link", "textbox", "button"]
    assert [name for name, _ in reached[4:]] == ["textbox", "textbox", "button"]
    assert all(named for _, named in reached)
    assert browser.execute_script("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 375])
def test_it_fits_a_phone_and_can_be_read(
    shop: Shop, open_browser: Callable[..., Chrome], unique: str, dark: bool, width: int
) -> None:
    """Nothing sticks out to the side, targets are large enough for a finger, text has a contrast of 4.5 (WCAG AA)."""
    browser = open_browser(dark=dark)
    browser.get(shop.create(unique, user=unique, description="Tea " * 20)["url"])
    metrics = {"width": width, "height": 640, "deviceScaleFactor": 3, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    sizes = [e.size["height"] for e in browser.find_elements(By.CSS_SELECTOR, "a.button, button, input, textarea")]
    card = browser.find_element(By.TAG_NAME, "main").value_of_css_property("background-color").replace("rgba", "rgb")
    colors = {
        css: browser.find_element(By.CSS_SELECTOR, css).value_of_css_property("color").replace("rgba", "rgb")
        for css in ("h1", ".address", ".hint", "label", ".note")
    }

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert min(sizes) >= 44
    assert {css: round(contrast(color, card), 1) for css, color in colors.items() if contrast(color, card) < 4.5} == {}
