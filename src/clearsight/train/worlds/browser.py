"""Render app screens in Chromium, ahead of training: `python -m clearsight.train.worlds --screens 2000`.

A browser is a hundred times slower than the other worlds' pens, so its pictures are kept: one PNG a screen with the
boxes of its elements and characters beside it. Screen number i of a split is the same whenever it is rendered.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clearsight.kernels.native import cache_folder

from .layouts import make_layout
from .sample import Split

_COLLECT = """() => [...document.querySelectorAll("[data-name]")].map(e => {
  const r = e.getBoundingClientRect();
  return [e.dataset.name, r.left, r.top, r.right, r.bottom];
})"""

# Where every character is, as the browser lays it out.
_CHARACTERS = """() => {
  const found = [], range = document.createRange();
  const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) {
    const node = nodes.currentNode;
    if (node.parentElement.tagName === "STYLE") continue;
    for (let i = 0; i < node.length; i++) {
      if (/\\s/.test(node.data[i])) continue;
      range.setStart(node, i);
      range.setEnd(node, i + 1);
      const r = range.getBoundingClientRect();
      found.push([node.data[i], r.left, r.top, r.right, r.bottom]);
    }
  }
  return found;
}"""


def screens_folder() -> Path:
    """Where rendered screens are kept: CLEARSIGHT_SCREENS, or a folder in the user's cache."""
    return Path(os.environ.get("CLEARSIGHT_SCREENS") or cache_folder() / "screens-2")


def chromium() -> str | None:
    """The browser's program: CLEARSIGHT_CHROMIUM, or the one on the path."""
    return os.environ.get("CLEARSIGHT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def render(split: Split, count: int, folder: Path) -> None:
    """Make sure that screens 0..count-1 of `split` lie in `folder`. Raises FileNotFoundError without a browser."""
    place = folder / split
    place.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(count) if not (place / f"{index}.json").exists()]
    if not missing:
        return
    with _page() as page:
        for index in missing:
            layout = make_layout(random.Random(f"screen {split} {index}"), split)
            page.set_viewport_size({"width": layout.width, "height": layout.height})
            page.set_content(layout.markup)
            page.evaluate("() => document.fonts.ready")
            page.screenshot(path=place / f"{index}.png")
            record = {
                "elements": _inside(page.evaluate(_COLLECT), layout.height),
                "characters": _inside(page.evaluate(_CHARACTERS), layout.height),
                "goals": layout.goals,
            }
            # The boxes come last: a screen whose boxes are there is whole.
            draft = place / f"{index}.tmp"
            draft.write_text(json.dumps(record), encoding="utf-8")
            os.replace(draft, place / f"{index}.json")


def _inside(elements: list[list[Any]], height: int) -> list[list[Any]]:
    """What lies wholly on the screen."""
    return [element for element in elements if element[2] >= 0 and element[4] <= height]


@contextmanager
def _page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = chromium()
    if program is None:
        raise FileNotFoundError("no Chromium found; install it or set CLEARSIGHT_CHROMIUM to its program")
    if shutil.which(program) is None:
        raise FileNotFoundError(f"CLEARSIGHT_CHROMIUM is {program!r}, which is no program that can be run")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()
