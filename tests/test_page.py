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
SIGN, CIRCLE = (str(Path("examples", name).absolute()) for name in ("sign.png", "circle.png"))


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


def remembered(page, turns):
    """As if this conversation had been held before."""
    page.evaluate("turns => import('/keep.js').then(keep => keep.saveTurns(turns))", turns)
    page.reload()


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
    reads(page, ".turn.assistant .text", "^Bread$")
    assert page.locator(".turn.user img").count() == 1
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
    remembered(page, turns)
    reads(page, ".call strong", "^read_sign$")
    assert page.get_attribute("#question", "placeholder") == "What read_sign gave back"
    ask(page, "It says Bread.")  # with a picture
    answered(page, 2)
    assert page.locator(".turn.tool img").count() == 1
    assert page.locator("#notice").is_hidden()


def test_boxes_are_drawn_where_they_belong(page):
    picture = page.evaluate("import('/examples.js').then(made => made.EXAMPLES[0].url())")
    note = {"type": "box", "label": "the word", "image": 0, "box": [32, 36, 136, 80]}
    point = {"type": "point", "label": "", "image": 0, "point": [84, 42]}
    turns = [
        {"role": "user", "text": "Where is the word?", "pictures": [picture]},
        {"role": "assistant", "text": "Here.", "calls": [], "notes": [note, point]},
    ]
    remembered(page, turns)
    page.wait_for_selector(".turn.assistant svg rect")
    image = page.locator(".turn.assistant figure img").bounding_box()
    box = page.locator(".turn.assistant svg rect").bounding_box()
    assert box["x"] - image["x"] == pytest.approx(image["width"] * 32 / 168, abs=3)
    assert box["y"] - image["y"] == pytest.approx(image["height"] * 36 / 84, abs=3)
    assert box["width"] == pytest.approx(image["width"] * 104 / 168, abs=6)
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


def test_pictures_come_by_drop_paste_and_choice_several_at_once(page):
    """Each picture is shown with what it costs, and can be taken back."""
    page.set_input_files("#files", [SIGN, CIRCLE])
    give = """async (kind) => {
        const canvas = Object.assign(document.createElement('canvas'), {width: 60, height: 60});
        const blob = await new Promise((done) => canvas.toBlob(done));
        const data = new DataTransfer();
        data.items.add(new File([blob], 'x.png', {type: 'image/png'}));
        const init = {bubbles: true, cancelable: true};
        const event = kind === 'drop' ? new DragEvent('drop', {...init, dataTransfer: data})
            : new ClipboardEvent('paste', {...init, clipboardData: data});
        document.body.dispatchEvent(event);
    }"""
    for number, kind in enumerate(("drop", "paste"), 3):
        page.evaluate(give, kind)
        page.wait_for_selector(f"#tray li:nth-child({number}) img")
    page.fill("#question", "What are these?")
    reads(page, "#tray li:nth-child(4) p", r"^\d+ tokens$")
    reads(page, "#cost", r"seen at (\d+ . \d+, ){3}\d+ . \d+$")
    page.click("#tray li:nth-child(3) button")
    page.press("#question", "Enter")
    answered(page)
    assert page.locator(".turn.user img").count() == 3


def test_a_question_can_be_changed_and_an_answer_made_again(page):
    ask(page, "What is it?")
    answered(page)
    page.click(".turn.assistant >> text=Retry")
    answered(page)
    page.click(".turn.user >> text=Edit")
    assert page.input_value("#question") == "What is it?"
    assert page.locator("#tray img").count() == 1
    assert page.locator(".turn").count() == 0
    page.fill("#question", "What does it say?")
    page.press("#question", "Enter")
    assert answered(page) == "Bread"


def test_an_example_is_one_click(page):
    page.click("#examples button")
    answered(page)
    assert page.locator(".turn.user img").count() == 1


def test_what_models_write_is_shown_as_they_mean_it(page):
    text = "# Seen\n\n- a **red** `box`\n- <i>two</i>\n\n1. one\n\n```py\nx = '<b>'\n```\nThe end"
    remembered(page, [{"role": "user", "text": "x", "pictures": []}, {"role": "assistant", "text": text, "calls": []}])
    said = page.locator(".turn.assistant .text")
    reads(page, ".turn.assistant .text h3", "^Seen$")
    assert said.locator("ul li").all_inner_texts() == ["a red box", "<i>two</i>"]
    assert said.locator("strong").inner_text() == "red"
    assert said.locator("ol li").inner_text() == "one"
    assert said.locator("pre").inner_text() == "x = '<b>'"
    assert said.locator("i, b").count() == 0


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
    assert page.locator("#copy-python").is_hidden()
    page.click("#menu")
    assert page.locator("#copy-python").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#copy-python").is_hidden()
    context.close()
