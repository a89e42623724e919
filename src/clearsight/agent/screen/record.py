"""The record of a run for people: one HTML file with every screen, the mark, thought, action, outcome and time.

Each step is appended and flushed, and the file needs no end: a run that is cut off leaves all its steps readable.
"""

from __future__ import annotations

import base64
import html
import io
import os
import time
from pathlib import Path
from typing import TextIO

from PIL.Image import Image as PillowImage

from clearsight.agent.screen.actions import Point

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --ink: #c2185b }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
article { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 1.5rem; padding: 1.5rem 0;
  border-top: 1px solid var(--line) }
@media (max-width: 45rem) { article { grid-template-columns: 1fr } }
figure { margin: 0; position: relative; align-self: start } figure img { width: 100%; border: 1px solid var(--line) }
.mark { position: absolute; width: 2.2rem; height: 2.2rem; border: 3px solid var(--ink); border-radius: 50%;
  transform: translate(-50%, -50%); box-shadow: 0 0 0 2px #fff }
.mark::after { content: ""; position: absolute; inset: 42%; background: var(--ink); border-radius: 50% }
dt { font-size: .8rem; opacity: .7 } dd { margin: 0 0 .7rem; overflow-wrap: anywhere; white-space: pre-wrap }
.action { font-family: ui-monospace, monospace; font-weight: 600 } .bad { color: #c62828 } .good { color: #2e7d32 }
h2 { font-size: 1rem; margin: 0 0 .7rem }
"""


class Record:
    """Writes `record.html` into a folder; the screens are inside it, so the file can be passed on alone."""

    def __init__(self, folder: str | Path, title: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.path = Path(folder) / "record.html"
        self._file: TextIO = open(self.path, "w", encoding="utf-8")  # noqa: SIM115  (lives as long as the run)
        self._write(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_safe(title)}</title>'
            '<meta name="viewport" content="width=device-width">'
            # Whatever a screen's texts try: nothing here may run or load.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'\">"
            f"<style>{_STYLE}</style><body><h1>{_safe(title)}</h1><p>{time.strftime('%Y-%m-%d %H:%M:%S %Z')}</p>\n"
        )

    def step(
        self,
        number: int,
        screen: PillowImage,
        *,
        thought: str,
        action: str,
        outcome: str,
        good: bool | None,
        seconds: float,
        tokens: int,
        mark: Point | None = None,
        place: str = "",
    ) -> None:
        """screen: as it was before the action. mark: where it acted, in thousandths. good: as intended or not."""
        at = "" if mark is None else f'<span class="mark" style="left:{mark[0] / 10}%;top:{mark[1] / 10}%"></span>'
        tone = {True: ' class="good"', False: ' class="bad"', None: ""}[good]
        about = f"{seconds:.1f} s, {tokens} tokens" + (f", {_safe(place)}" if place else "")
        self._write(
            f'<article><figure><img alt="screen before step {number}" src="{_address(screen)}">{at}</figure>'
            f"<div><h2>Step {number}</h2><dl><dt>thought</dt><dd>{_safe(thought) or '(none)'}</dd>"
            f'<dt>action</dt><dd class="action">{_safe(action)}</dd><dt>outcome</dt><dd{tone}>{_safe(outcome)}</dd>'
            f"<dt>time</dt><dd>{about}</dd></dl></div></article>\n"
        )

    def finish(self, reason: str, why: str, screen: PillowImage | None) -> None:
        shown = "" if screen is None else f'<figure><img alt="last screen" src="{_address(screen)}"></figure>'
        self._write(
            f"<article>{shown}<div><h2>End: {_safe(reason)}</h2><p>{_safe(why)}</p></div></article></body></html>\n"
        )
        self._file.close()

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
        os.fsync(self._file.fileno())


def _safe(text: str) -> str:
    return html.escape("".join(c for c in text if c.isprintable() or c == "\n"))


def _address(screen: PillowImage) -> str:
    buffer = io.BytesIO()
    screen.save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
