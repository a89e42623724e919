"""Take the pictures of the page that the documents show: `python tools/make_screenshots.py` (needs Chromium)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, Playwright, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]

import demo_live  # noqa: E402
from live_server import running  # noqa: E402

from clearsight.server import ServerSettings  # noqa: E402

BOXED = """async () => {
    const keep = await import('/keep.js');
    const {EXAMPLES} = await import('/examples.js');
    const call = {id: 'c1', type: 'function', function: {name: 'look_up', arguments: '{"word": "Coffee"}'}};
    await keep.saveTurns([
        {role: 'user', text: 'Where is the word?', pictures: [EXAMPLES[0].url()]},
        {role: 'assistant', text: 'Here, in the **middle**:', calls: [], used: '41 tokens read, 22 written · 0.4 s',
            notes: [{type: 'box', label: 'the word', image: 0, box: [18, 24, 146, 62]}]},
        {role: 'user', text: 'What does it cost?', pictures: []},
        {role: 'assistant', text: '', calls: [call], used: '120 tokens read, 31 written · 0.6 s'},
        {role: 'tool', id: 'c1', name: 'look_up', text: 'Coffee: 2.40', pictures: []},
        {role: 'assistant', text: 'It costs **2.40**.', calls: [], used: '160 tokens read, 9 written · 0.2 s'},
    ]);
}"""
"""Boxes and calls by hand, because the model in the box does not make them everywhere."""


def talk(page: Page) -> None:
    for picture, question in (("sign.png", "What does it say?"), ("circle.png", "What is this?")):
        page.set_input_files("#files", str(ROOT / "examples" / picture))
        page.wait_for_selector("#tray img")
        page.fill("#question", question)
        page.press("#question", "Enter")
        page.wait_for_timeout(300)
        page.wait_for_selector("#send", state="visible")
    page.set_input_files("#files", str(ROOT / "examples" / "sign.png"))
    page.fill("#question", "And what does this one say?")
    page.wait_for_timeout(1500)


def watch(page: Page) -> None:
    """The camera sees the clip of the live demo; what is shown is what nano says."""
    page.click("#go-live")
    page.wait_for_timeout(5_000)
    page.fill("#live-instruction", "Is there a triangle?")
    page.press("#live-instruction", "Enter")
    for _ in range(2):
        page.fill("#question", "What is this?")
        page.press("#question", "Enter")
        page.wait_for_timeout(8_000)


def live(address: str, playwright: Playwright, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mjpeg"
        demo_live.write(clip, "mjpeg", "yuvj420p")
        flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        flags += [f"--use-file-for-fake-video-capture={clip}", "--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": 1000, "height": 720})
        page.goto(address)
        watch(page)
        page.screenshot(path=out / "page-live.png")
        browser.close()


def main() -> None:
    out = ROOT / "docs" / "images"
    out.mkdir(parents=True, exist_ok=True)
    with running(ServerSettings(names=("nano",))) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, height, scheme in (
            ("light", 1000, 720, "light"),
            ("dark", 1000, 720, "dark"),
            ("phone", 390, 720, "light"),
        ):
            page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
            page.goto(address)
            page.wait_for_selector("#examples img")
            if name == "light":
                page.screenshot(path=out / "page-empty.png")
            if name != "dark":
                talk(page)
            else:
                page.evaluate(BOXED)
                page.reload()
                page.wait_for_selector("rect")
                page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=out / f"page-{name}.png")
        browser.close()
        live(address, playwright, out)


if __name__ == "__main__":
    main()
