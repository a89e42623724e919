"""Pages within a page: frames have coordinates, and perhaps an origin, of their own."""

from __future__ import annotations

import contextlib
from typing import Any

from clearsight.agent.screen.environment import Element, Target
from clearsight.agent.screen.probe import ELEMENTS, TARGET, Window, elements_of, target_of

_DEEPEST = 4


def target_in_frames(frame: Any, place: tuple[int, int] | None) -> Target:
    """What lies at a place of the screen, in pixels, or has the focus (None), in whatever frame it is."""
    point: tuple[float, float] | None = place
    for _ in range(_DEEPEST):
        found = frame.evaluate(TARGET, point)
        if not found or not found.get("frame"):
            return target_of(found)
        inner = frame.evaluate_handle(TARGET.replace("/*ELEMENT*/", "return e;"), point).as_element()
        (left, top), frame = _origin(inner), inner.content_frame()
        point = place and (place[0] - left, place[1] - top)
    return Target()


def elements_in_frames(outer: Any, size: tuple[int, int], window: Window | None = None) -> list[Element]:
    """What the frames within a frame hold, and those within them.

    size: of the screen in pixels. window: what is in sight of the outer frame; None for the whole screen.
    """
    from playwright.sync_api import Error

    left, top, right, bottom = window or (0, 0, *size)
    found: list[Element] = []
    for frame in outer.child_frames:
        with contextlib.suppress(Error):  # a frame may go while it is looked at
            element = frame.frame_element()
            box = element.bounding_box()
            if not box or not box["width"] or not box["height"]:
                continue
            x, y = box["x"], box["y"]
            seen = max(left, x), max(top, y), min(right, x + box["width"]), min(bottom, y + box["height"])
            found += elements_of(frame.evaluate(ELEMENTS), size, _origin(element), seen)
            found += elements_in_frames(frame, size, seen)
    return found


def _origin(frame: Any) -> tuple[float, float]:
    """Where the page within a frame begins on the screen, in pixels."""
    box = frame.bounding_box()
    left, top = frame.evaluate(
        "e => { const s = getComputedStyle(e);"
        " return [e.clientLeft + parseFloat(s.paddingLeft), e.clientTop + parseFloat(s.paddingTop)]; }"
    )
    return box["x"] + left, box["y"] + top
