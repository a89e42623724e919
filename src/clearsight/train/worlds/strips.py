"""The world "strips": pictures of extreme size and shape, from 28 x 28 to 840 x 28, 28 x 420 and 448 x 448."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw

from .fonts import cap_height, open_font, pick_font
from .ink import ink_and_paper, wear
from .marks import glyphs, marked, marks_of
from .sample import CELL, Sample, Split, about
from .scene import COLOURS, SHAPES, Scene, Shape, colours_on, photograph, pick_paper, place, plural, with_article
from .tokens import SINGLE, short_text, token, word
from .wording import ask


def draw_strips(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """Very small, very wide, very tall or large pictures; `level` 0..1 grows them."""
    return rng.choice((_tiny, _wide_text, _tall_text, _far_text, _wide_shapes, _tall_shapes, _small_on_large))(
        rng, split, level
    )


def _read(rng: random.Random, split: Split, picture: Image.Image, text: str, skill: str) -> Sample:
    return about(marked(wear(rng, picture), marks_of(picture) or ()), ask(rng, "read", split), text, skill)


def _written(rng: random.Random, split: Split, size: tuple[int, int], text: str, caps: float) -> Image.Image:
    """`text` in the middle of a sheet of `size`, in capitals of about `caps` pixels, smaller if it must."""
    font = pick_font(rng, split)
    points = max(8, int(caps / cap_height(font)))
    while points > 8 and open_font(font, points).getlength(text) > size[0] - 6:
        points -= 1
    ink, paper = ink_and_paper(rng)
    sheet = Image.new("RGB", size, paper)
    at, pen, face = (size[0] / 2, size[1] / 2), ImageDraw.Draw(sheet), open_font(font, points)
    pen.text(at, text, fill=ink, font=face, anchor="mm")
    return marked(sheet, glyphs(face, text, pen.textbbox(at, text, font=face, anchor="mm")))


def _tiny(rng: random.Random, split: Split, _level: float) -> Sample:
    text = rng.choice(SINGLE) if rng.random() < 0.6 else str(rng.randint(10, 99))
    return _read(rng, split, _written(rng, split, (CELL, CELL), text, rng.uniform(9, 15)), text, "tiny picture")


def _wide_text(rng: random.Random, split: Split, level: float) -> Sample:
    count = 3 + rng.randint(0, round(5 * level))
    text = " ".join(word(rng, split, 8) for _ in range(count))
    caps = rng.uniform(10, 14)
    width = min(30, max(8, round(len(text) * caps * 0.85 / CELL) + 1))
    return _read(rng, split, _written(rng, split, (width * CELL, CELL), text, caps), text, "very wide picture")


def _tall_text(rng: random.Random, split: Split, level: float) -> Sample:
    lines = [token(rng, rng.choice(("word", "number")), split, 5) for _ in range(3 + rng.randint(0, round(7 * level)))]
    size = 3 * CELL, (len(lines) + 1) * CELL
    font, (ink, paper) = pick_font(rng, split), ink_and_paper(rng)
    sheet, face = Image.new("RGB", size, paper), open_font(font, 18)
    pen, marks = ImageDraw.Draw(sheet), []
    for row, line in enumerate(lines):
        at = size[0] / 2, (row + 1) * CELL
        pen.text(at, line, fill=ink, font=face, anchor="mm")
        marks += glyphs(face, line, pen.textbbox(at, line, font=face, anchor="mm"))
    return _read(rng, split, marked(sheet, marks), "\n".join(lines), "very tall picture")


def _far_text(rng: random.Random, split: Split, level: float) -> Sample:
    """One text somewhere on a large empty sheet."""
    text, _ = short_text(rng, split, max(0.3, level))
    side = rng.randint(10, 11 + round(5 * level)) * CELL
    word = _written(rng, split, (6 * CELL, CELL), text, rng.uniform(10, 16))
    sheet = Image.new("RGB", (side, side), word.getpixel((0, 0)))
    x, y = rng.randint(0, side - word.width), rng.randint(0, side - word.height)
    sheet.paste(word, (x, y))
    marks = [mark._replace(x=mark.x + x, y=mark.y + y) for mark in marks_of(word) or ()]
    return _read(rng, split, marked(sheet, marks), text, "text on a large sheet")


def _row(rng: random.Random, level: float, tall: bool) -> tuple[Scene, list[Shape]]:
    """A strip one cell thick with shapes one behind the other."""
    paper = pick_paper(rng)
    colours, count = colours_on(paper), rng.randint(1, 3 + round(9 * level))
    length = max(6, count * 2 + rng.randint(0, 3))
    spots = sorted(rng.sample(range(length), count))
    shapes = []
    for spot in spots:
        along, across = (spot + 0.5) * CELL, CELL / 2
        x, y = (across, along) if tall else (along, across)
        shapes.append(Shape(rng.choice(SHAPES), rng.choice(colours), x, y, rng.uniform(9, 11)))
    size = (CELL, length * CELL) if tall else (length * CELL, CELL)
    return Scene(*size, paper, tuple(shapes)), shapes


def _strip_of_shapes(rng: random.Random, split: Split, level: float, tall: bool) -> Sample:
    scene, shapes = _row(rng, level, tall)
    picture, skill = photograph(rng, scene), f"very {'tall' if tall else 'wide'} picture: count"
    if rng.random() < 0.5:
        return about(picture, ask(rng, "count", split), str(len(shapes)), skill)
    shape = rng.choice(SHAPES)
    number = sum(item.name == shape for item in shapes)
    return about(picture, ask(rng, "count shape", split, shapes=plural(shape)), str(number), skill)


def _wide_shapes(rng: random.Random, split: Split, level: float) -> Sample:
    return _strip_of_shapes(rng, split, level, tall=False)


def _tall_shapes(rng: random.Random, split: Split, level: float) -> Sample:
    return _strip_of_shapes(rng, split, level, tall=True)


def _small_on_large(rng: random.Random, split: Split, level: float) -> Sample:
    side = rng.randint(10, 11 + round(5 * level)) * CELL
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    scene = Scene(side, side, pick_paper(rng, colour), place(rng, (side, side), [(shape, colour)], largest=0.05))
    return about(
        photograph(rng, scene),
        ask(rng, "describe", split),
        with_article(f"{colour} {shape}"),
        "shape on a large sheet",
    )
