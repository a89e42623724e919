"""Take the pictures of the page that the documents show: `python tools/make_screenshots.py` (needs Chromium)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

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


if __name__ == "__main__":
    main()
