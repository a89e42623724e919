"""Boxes, points and their labels drawn on a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

_COLOURS = ("#e11d48", "#2563eb", "#16a34a", "#d97706", "#9333ea", "#0891b2")


class Mark(NamedTuple):
    """label: may be empty. pixels: x1, y1, x2, y2 of a box, or x, y of a point."""

    label: str
    pixels: tuple[float, ...]


def draw(picture: Image.Image, marks: Iterable[Mark]) -> Image.Image:
    """A copy with the marks on it, one colour for each label. Line and letters grow with the picture."""
    drawn = picture.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    width = max(2, round(min(drawn.size) / 150))
    font = ImageFont.load_default(max(11, min(drawn.size) // 28))
    labels: list[str] = []
    for mark in marks:
        if mark.label not in labels:
            labels.append(mark.label)
        colour = _COLOURS[labels.index(mark.label) % len(_COLOURS)]
        if len(mark.pixels) == 4:
            pen.rectangle(mark.pixels, outline=colour, width=width)
            corner = mark.pixels[:2]
        else:
            x, y = mark.pixels
            radius = 2.5 * width
            pen.ellipse(
                (x - radius, y - radius, x + radius, y + radius), fill=colour, outline="white", width=width // 2
            )
            corner = x + radius, y - radius
        if mark.label:
            _tag(pen, mark.label, corner, colour, font, drawn.size)
    return drawn


def _tag(
    pen: ImageDraw.ImageDraw,
    label: str,
    corner: tuple[float, ...],
    colour: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """A label above the corner, or inside where there is no room above; never beyond the right edge."""
    left, top, right, bottom = pen.textbbox((0, 0), label, font=font)
    wide, high = right - left + 6, bottom - top + 6
    x = max(0.0, min(corner[0], size[0] - wide))
    y = corner[1] - high if corner[1] >= high else corner[1]
    pen.rectangle((x, y, x + wide, y + high), fill=colour)
    pen.text((x + 3 - left, y + 3 - top), label, fill="white", font=font)
