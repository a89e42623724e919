"""The page in a real browser, against a real server: asked, streamed, stopped, kept, counted, refused, copied."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from live_server import CLOSED, running

from clearsight.server import ServerSettings

BROWSER = os.environ.get("CLEARSIGHT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium found; install it or set CLEARSIGHT_CHROMIUM")
SIGN = str(Path("examples/sign.png").absolute())


@pytest.fixture(scope="module")
def address():
    with running(ServerSettings(names=("nano", "other-name")), media=CLOSED) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser, address):
    """A fresh visitor; whatever the page itself does wrong fails the test."""
    context = browser.new_context(viewport={"width": 1000, "height": 760})
    found = context.new_page()
    problems, elsewhere = [], []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    found.on("request", lambda request: elsewhere.append(request.url) if address not in request.url else None)
    found.goto(address)
    yield found
    context.close()
    assert [problem for problem in problems if "status of 400" not in problem] == []
    assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []


def ask(page, question, picture=SIGN):
    if picture:
        page.set_input_files("#files", picture)
        page.wait_for_selector("#tray img")
    page.fill("#question", question)
    page.press("#question", "Enter")


def answered(page, number=1):
    from playwright.sync_api import expect

    expect(page.locator(".turn.assistant:not(.busy)")).to_have_count(number, timeout=20_000)
    return page.locator(".turn.assistant").nth(number - 1).locator(".text").inner_text()


def reads(page, selector, pattern):
    """Wait until an element's text matches."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(re.compile(pattern), timeout=10_000)


def test_a_question_about_a_picture_is_answered_counted_and_kept(page):
    page.set_input_files("#files", SIGN)
    page.fill("#question", "What does it say?")
    reads(page, "#cost", r"^\d+ of 8192 tokens . seen at \d+ . \d+$")
    page.press("#question", "Enter")
    assert answered(page) == "Bread"
    assert "tokens read" in page.locator(".turn.assistant .used").inner_text()
    assert page.locator(".turn.user img").count() == 1
    page.reload()
    assert page.locator(".turn.assistant .text").inner_text() == "Bread"
    page.click("#new")
    assert page.locator(".turn").count() == 0
    assert page.locator("#empty").is_visible()


def test_the_keyboard_is_enough(page):
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#question") == "one\ntwo"
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn.user")
    page.keyboard.press("Escape")
    answered(page)
    assert page.locator("#send").is_visible()


def test_stop_keeps_what_was_said(page):
    page.click("#open-settings")
    page.fill("#set-max_tokens", "4000")
    page.fill("#set-temperature", "2")
    page.click("#close-settings")
    ask(page, "Tell me a very long story.", None)
    page.wait_for_selector("#stop", state="visible")
    page.evaluate("document.querySelector('#stop').click()")
    page.wait_for_selector("#send", state="visible")
    assert page.locator(".turn.assistant.busy").count() == 0


def test_what_the_server_refuses_is_one_sentence_with_a_way_back(page):
    page.evaluate("localStorage.setItem('settings', JSON.stringify({max_tokens: 99999}))")
    page.reload()
    ask(page, "Hello", None)
    reads(page, "#notice span", "max_tokens is 99999; the limit here is 16384")
    page.click("#open-settings")
    page.fill("#set-max_tokens", "5")
    page.click("#close-settings")
    ask(page, "Hello again", None)
    answered(page)
    assert page.locator("#notice").is_hidden()


def test_markup_in_texts_stays_text(page):
    ask(page, "<img src=x onerror=alert(1)><b>bold</b>", None)
    answered(page)
    assert page.locator(".turn.user b, .turn.user .text img").count() == 0
    assert "<b>bold</b>" in page.locator(".turn.user .text").inner_text()


def test_calls_are_shown_and_their_results_sent(page):
    parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "read_sign", "parameters": parameters}}
    page.click("#open-settings")
    page.fill("#set-tools", "not json")
    page.click("#close-settings")
    assert page.locator("#settings-error").inner_text() == "The tools are not a JSON list."
    page.fill("#set-tools", json.dumps([tool]))
    page.click("#close-settings")
    call = {"id": "c1", "type": "function", "function": {"name": "read_sign", "arguments": "{}"}}
    turns = [
        {"role": "user", "text": "Look", "pictures": []},
        {"role": "assistant", "text": "", "calls": [call]},
    ]
    page.evaluate("turns => localStorage.setItem('turns', JSON.stringify(turns))", turns)
    page.reload()
    assert page.locator(".call strong").inner_text() == "read_sign"
    ask(page, "It says Bread.", None)
    answered(page, 2)
    assert page.locator("#notice").is_hidden()


def test_boxes_are_drawn_where_they_belong(page):
    picture = page.evaluate("import('/view.js').then(view => view.examplePicture())")
    note = {"type": "box", "label": "the word", "image": 0, "box": [32, 36, 186, 80]}
    point = {"type": "point", "label": "", "image": 0, "point": [112, 56]}
    turns = [
        {"role": "user", "text": "Where is the word?", "pictures": [picture]},
        {"role": "assistant", "text": "Here.", "calls": [], "notes": [note, point]},
    ]
    page.evaluate("turns => localStorage.setItem('turns', JSON.stringify(turns))", turns)
    page.reload()
    page.wait_for_selector(".turn.assistant svg rect")
    image = page.locator(".turn.assistant figure img").bounding_box()
    box = page.locator(".turn.assistant svg rect").bounding_box()
    assert box["x"] - image["x"] == pytest.approx(image["width"] * 32 / 224, abs=3)
    assert box["y"] - image["y"] == pytest.approx(image["height"] * 36 / 112, abs=3)
    assert box["width"] == pytest.approx(image["width"] * 154 / 224, abs=6)
    assert page.locator(".turn.assistant .tag").inner_text() == "the word"


def test_the_conversation_can_be_taken_along(page, browser, address):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    ask(page, "What does it say?")
    answered(page)
    page.click("#copy-curl")
    reads(page, "#copy-curl", "Copied")
    curl = page.evaluate("navigator.clipboard.readText()")
    assert curl.startswith(f"curl {address}/v1/chat/completions")
    assert '"image_url"' in curl
    page.click("#copy-python")
    reads(page, "#copy-python", "Copied")
    code = page.evaluate("navigator.clipboard.readText()")
    compile(code, "copied", "exec")
    assert "OpenAI(base_url=" in code


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_everything_in_either_light(browser, address, scheme):
    context = browser.new_context(viewport={"width": 360, "height": 640}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    ask(page, "What does it say?")
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#send").is_visible()
    context.close()
