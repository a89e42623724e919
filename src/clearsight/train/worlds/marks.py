"""What stands where on a drawn picture: known to whoever draws it, and worth more to a vision tower than an answer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

from PIL import Image, ImageFont

TICK_BOX = ("box", "ticked")
"""What a box to tick and one that is ticked are called; the latter is both."""

_KEY = "marks"
_REACH = 0.6  # of the font's size: how far above and below its middle a line of text is seen
_JOINER = "\u200d"  # has no width, and the letter before it takes the form that goes on


class Mark(NamedTuple):
    """Something at (x, y), up to `across` to its left and right and `down` above and below, in pixels.

    what: a character, or the names of a shape and its colour, or of a box to tick.
    """

    what: tuple[str, ...]
    x: float
    y: float
    across: float
    down: float


Corners = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def glyphs(face: ImageFont.FreeTypeFont, text: str, box: Corners, *, leftwards: bool = False) -> list[Mark]:
    """The characters, but for spaces, of one line of `text` whose ink fills `box`, from left to right.

    leftwards: they run from the right and join, as Arabic's do, which takes `face` to lay them out with Raqm.
    """
    if leftwards:
        text, widths = text[::-1], _joined(face, text)[::-1]
    else:
        widths = [_advance(face, character) for character in text]
    left, top, right, bottom = box
    scale = (right - left) / max(1e-6, sum(widths))
    ends = accumulate(widths)
    return [
        Mark((character,), left + scale * (end - width / 2), (top + bottom) / 2, scale * width / 2, _REACH * face.size)
        for character, width, end in zip(text, widths, ends, strict=True)
        if not character.isspace()
    ]


def _joined(face: ImageFont.FreeTypeFont, text: str) -> list[float]:
    """How much every character adds to the width of `text`, with the form that its neighbours give it."""
    ends = [0.0]
    for end, following in enumerate([*text[1:], " "], 1):
        joins = not (text[end - 1].isspace() or following.isspace())
        ends.append(face.getlength(text[:end] + _JOINER * joins))
    return [after - before for before, after in pairwise(ends)]


# Few, because every entry keeps its font open.
@lru_cache(maxsize=4096)
def _advance(face: ImageFont.FreeTypeFont, character: str) -> float:
    return face.getlength(character)


def turned(marks: Iterable[Mark], size: tuple[int, int], angle: float) -> list[Mark]:
    """Where they are after a picture of `size` was turned by `angle` degrees about its middle, as Pillow turns."""
    x, y = size[0] / 2, size[1] / 2
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return [
        mark._replace(x=x + cos * (mark.x - x) + sin * (mark.y - y), y=y - sin * (mark.x - x) + cos * (mark.y - y))
        for mark in marks
    ]


def marked(picture: Image.Image, marks: Iterable[Mark]) -> Image.Image:
    """The same picture, which now carries `marks`; changes made by Pillow lose them."""
    picture.info[_KEY] = tuple(marks)
    return picture


def marks_of(picture: Image.Image) -> tuple[Mark, ...] | None:
    """What `picture` is known to show, in reading order; None if it carries no marks."""
    return picture.info.get(_KEY)
