"""The world "signs": text as it stands in a street, on coloured boards seen from the side, before a busy ground."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .fonts import open_font, pick_font
from .ink import RGB, luminance, wear
from .marks import Mark, glyphs, marked, turned
from .questions import absent, phrase
from .sample import CELL, Sample, Split, about
from .scene import COLOURS
from .tokens import recase, token, word
from .wording import ask

_BOARD_HEIGHT = 40


def draw_signs(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """One to three signs on a ground of 112 x 168 to 224 x 224; `level` 0..1 grows their number and their slant."""
    count = 1 + rng.randint(0, round(2 * level))
    colours = rng.sample(list(COLOURS), count)
    texts = [_text(rng, split, level) for _ in colours]
    ground = _ground(rng, (rng.randint(6, 8) * CELL, (2 + 2 * count) * CELL))
    band = ground.height / count
    marks: list[Mark] = []
    for index, (colour, text) in enumerate(zip(colours, texts, strict=True)):
        board, letters = _board(rng, split, COLOURS[colour], text, ground.width - 10, level)
        x = rng.randint(0, max(0, ground.width - board.width))
        y = round(index * band + rng.uniform(0, max(0.0, band - board.height)))
        ground.paste(board, (x, y), board)
        marks += [mark._replace(x=mark.x + x, y=mark.y + y) for mark in letters]
    picture = marked(wear(rng, ground), marks)
    return _pose(rng, split, picture, dict(zip(colours, texts, strict=True)))


def _pose(rng: random.Random, split: Split, picture: Image.Image, signs: dict[str, str]) -> Sample:
    kind = rng.random()
    colour = rng.choice(list(signs))
    if kind < 0.06:
        other = rng.choice([name for name in COLOURS if name not in signs])
        return about(picture, phrase(rng, "sign", split, colour=other), absent(f"{other} sign"), "honesty")
    if kind < 0.2 and len(signs) > 1:
        return about(picture, phrase(rng, "sign colour", split, name=signs[colour]), colour, "colour of a sign")
    question = phrase(rng, "sign", split, colour=colour) if len(signs) > 1 or kind < 0.5 else ask(rng, "read", split)
    return about(picture, question, signs[colour], "sign")


def _text(rng: random.Random, split: Split, level: float) -> str:
    if rng.random() < 0.3:
        return token(rng, rng.choice(("number", "code", "price")), split, 8)
    chosen = [word(rng, split, 7) for _ in range(1 + (rng.random() < 0.3 * level))]
    return recase(rng, " ".join(chosen))


def _ground(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    """Soft patches of colour, as a photograph out of focus."""
    generator = np.random.default_rng(rng.getrandbits(64))
    base = generator.integers(40, 200, (1, 1, 3))
    coarse = (base + generator.integers(-40, 40, (rng.randint(2, 7), rng.randint(2, 7), 3))).clip(0, 255)
    ground = Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(ground)
    for _ in range(rng.randint(0, 5)):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        grey = rng.randint(30, 220)
        pen.rectangle((x, y, x + rng.uniform(4, 60), y + rng.uniform(20, 120)), fill=(grey, grey, grey))
    return ground.filter(ImageFilter.GaussianBlur(2.5))


def _board(
    rng: random.Random, split: Split, colour: RGB, text: str, widest: int, level: float
) -> tuple[Image.Image, list[Mark]]:
    """A board with `text`, turned and drawn in perspective, on nothing, and where its characters are."""
    font = pick_font(rng, split)
    size = rng.randint(15, 26)
    while size > 9 and open_font(font, size).getlength(text) > widest - 16:
        size -= 1
    face = open_font(font, size)
    width, height = round(face.getlength(text)) + rng.randint(12, 16), min(_BOARD_HEIGHT, round(size * 1.7))
    ink = (250, 250, 250) if luminance(colour) < 150 else (12, 12, 12)
    board = Image.new("RGBA", (width, height), (*colour, 255))
    pen = ImageDraw.Draw(board)
    if rng.random() < 0.5:
        pen.rectangle((1, 1, width - 2, height - 2), outline=ink)
    middle = width / 2, height / 2
    pen.text(middle, text, fill=ink, font=face, anchor="mm")
    return _seen_from_the_side(
        rng, board, glyphs(face, text, pen.textbbox(middle, text, font=face, anchor="mm")), level
    )


def _seen_from_the_side(
    rng: random.Random, board: Image.Image, letters: list[Mark], level: float
) -> tuple[Image.Image, list[Mark]]:
    """The board and its letters, whose middles one end's being smaller hardly moves."""
    width, height = board.size
    depth = rng.uniform(0, 0.18 * level) * height
    ends = (depth, 0.0) if rng.random() < 0.5 else (0.0, depth)
    # The quad of the source that fills the output: reaching above and below at one end makes that end smaller.
    quad = (0, -ends[0], 0, height + ends[0], width, height + ends[1], width, -ends[1])
    board = board.transform(board.size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    most = math.degrees(math.atan2(16, width))
    angle = rng.uniform(-most, most) * level
    turned_board = board.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    right, lower = (turned_board.width - width) / 2, (turned_board.height - height) / 2
    moved = [mark._replace(x=mark.x + right, y=mark.y + lower) for mark in turned(letters, board.size, angle)]
    return turned_board, moved
