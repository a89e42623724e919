"""The page's camera button in a real browser whose camera is Chromium's own test picture."""

from __future__ import annotations

import re

import pytest
from live_server import CLOSED, running
from test_page import BROWSER, pytestmark  # noqa: F401  (skips where there is no browser)

from clearsight.server import ServerSettings

KEY = "a-key-of-the-page"


@pytest.fixture(scope="module")
def address():
    with running(ServerSettings(names=("nano",), keys=(KEY,), live_sessions=1), media=CLOSED) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield found
        found.close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1000, "height": 760})
    context.add_init_script(f"localStorage.setItem('settings', JSON.stringify({{key: '{KEY}'}}))")
    found = context.new_page()
    problems = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    found.goto(address)
    yield found
    context.close()
    assert [problem for problem in problems if "WebSocket connection" not in problem] == []


def reads(page, selector, pattern):
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(re.compile(pattern), timeout=20_000)


def go_live(page):
    page.click("#go-live")
    reads(page, "#live-state", r"\d:\d\d seen . [1-9]\d* frames . [1-9]\d* of \d+ tokens")


def test_the_camera_is_seen_and_asked_about(page):
    go_live(page)
    assert page.evaluate("document.querySelector('#live-video').videoWidth") > 0
    page.fill("#question", "What is this?")
    page.press("#question", "Enter")
    reads(page, ".turn.assistant:not(.busy) .used", r"\d+ tokens in view, [1-9]\d* written")
    assert page.locator(".turn.assistant .text").inner_text()
    page.click("#live-stop")
    assert page.locator("#live").is_hidden()
    assert page.locator("#go-live").is_visible()
    assert page.evaluate("document.querySelector('#live-video').srcObject") is None


def test_an_instruction_can_be_given_and_taken_back(page):
    for _ in range(50):  # the session that was just stopped may still count for a moment
        page.click("#go-live")
        page.wait_for_timeout(200)
        if page.locator("#live").is_visible():
            break
    page.fill("#live-instruction", "Is there a green circle?")
    page.press("#live-instruction", "Enter")
    reads(page, "#live-standing li", "Is there a green circle")
    page.click("#live-standing button")
    assert page.locator("#live-standing li").count() == 0
    page.click("#new")
    assert page.locator("#live").is_hidden()


def test_a_server_without_a_free_session_says_so(page, browser, address):
    for _ in range(50):
        page.click("#go-live")
        page.wait_for_timeout(300)
        if page.locator("#live").is_visible():
            break
    reads(page, "#live-state", "seen")
    context = browser.new_context()
    context.add_init_script(f"localStorage.setItem('settings', JSON.stringify({{key: '{KEY}'}}))")
    other = context.new_page()
    other.goto(address)
    other.click("#go-live")
    reads(other, "#notice span", "session")
    assert other.locator("#live").is_hidden()
    context.close()


def test_a_refused_camera_is_one_sentence(page):
    no = "() => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {no}; }}")
    page.click("#go-live")
    reads(page, "#notice span", r"^The camera was not allowed\.$")
    assert page.locator("#live").is_hidden()
