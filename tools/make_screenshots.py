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

NOTES = [{"type": "box", "label": "the word", "image": 0, "box": [28, 32, 190, 84]}]


def talk(page: Page) -> None:
    for picture, question in (("sign.png", "What does it say?"), ("circle.png", "What is this?")):
        page.set_input_files("#files", str(ROOT / "examples" / picture))
        page.wait_for_selector("#tray img")
        page.fill("#question", question)
        page.press("#question", "Enter")
        page.wait_for_timeout(300)
        page.wait_for_selector("#send", state="visible")
    page.fill("#question", "And how many shapes are there?")
    page.wait_for_timeout(700)


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
            talk(page)
            page.screenshot(path=out / f"page-{name}.png")
        browser.close()
        live(address, playwright, out)


if __name__ == "__main__":
    main()
