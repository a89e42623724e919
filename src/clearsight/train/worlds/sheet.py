"""A sheet of paper that printed worlds write on: measured text, frames, and the wear of a photograph at the end."""

from __future__ import annotations

import random
from typing import NamedTuple

from PIL import Image, ImageDraw

from .fonts import font_files, open_font
from .ink import RGB, background, ink_and_paper, plain_ink_and_paper, wear
from .marks import Corners, Mark, glyphs, marked, turned
from .sample import CELL, Split

MIN_SIZE = 9


class Sheet:
    """Paper of `cells` (across, down) merged tokens with one font family and one pair of colours."""

    def __init__(self, rng: random.Random, split: Split, cells: tuple[int, int], *, plain: float = 0.4) -> None:
        """plain: share of sheets that are nearly black on nearly white."""
        self.rng = rng
        self.width, self.height = cells[0] * CELL, cells[1] * CELL
        colours = plain_ink_and_paper if rng.random() < plain else ink_and_paper
        self.ink, self.paper = colours(rng)
        self.family = rng.choice(font_files(split))
        self.body = rng.choice(self.family)
        self.picture = background(rng, (self.width, self.height), self.paper)
        self.pen = ImageDraw.Draw(self.picture)
        self.marks: list[Mark] = []

    def text(
        self, at: tuple[float, float], text: str, size: float, *, anchor: str = "la", fill: RGB | None = None,
        room: float | None = None,
    ) -> Corners:  # fmt: skip
        """Write `text`; smaller if it would be wider than `room`. Returns the box of its ink."""
        face = open_font(self.body, max(MIN_SIZE, int(size)))
        while room is not None and face.size > MIN_SIZE and face.getlength(text) > room:
            face = open_font(self.body, int(face.size) - 1)
        self.pen.text(at, text, fill=fill or self.ink, font=face, anchor=anchor)
        box = self.pen.textbbox(at, text, font=face, anchor=anchor)
        self.marks += glyphs(face, text, box)
        return box

    def measure(self, text: str, size: float) -> float:
        """Width of `text` in pixels."""
        return open_font(self.body, max(MIN_SIZE, int(size))).getlength(text)

    def faint(self, share: float = 0.5) -> RGB:
        """A colour between paper and ink."""
        red, green, blue = (round(p + (i - p) * share) for p, i in zip(self.paper, self.ink, strict=True))
        return red, green, blue

    def finish(self, *, tilt: float = 2.0) -> Image.Image:
        """The picture, one time in three turned by up to `tilt` degrees, and perhaps worn."""
        picture, marks = self.picture, self.marks
        if tilt and self.rng.random() < 0.33:
            angle = self.rng.uniform(-tilt, tilt)
            picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=self.paper)
            marks = turned(marks, picture.size, angle)
        return marked(wear(self.rng, picture), marks)


class Field(NamedTuple):
    """Something written on a sheet that can be asked for: how it is called in a question, and its value."""

    name: str
    value: str
