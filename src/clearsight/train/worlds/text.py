"""Worlds to read: "word" (one short text), "line" (one printed line) and "page" (a sheet of up to four lines)."""

from __future__ import annotations

import math
import random
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clearsight.messages import Image as ImagePart

from .fonts import cap_height, open_font, pick_font
from .ink import background, ink_and_paper, plain_ink_and_paper, wear
from .marks import glyphs, marked, turned
from .sample import CELL, Asked, Sample, Split, about, belongs, talk
from .tokens import recase, short_text, token, word
from .wording import ask

NO_SHAPES = "There are no shapes."

ORDINALS = ("first", "second", "third", "fourth", "last")

_MARGIN = 4
_PAGE_MARGIN = 12
_MIN_SIZE = 8
_READABLE_CAPS = 9.0
_WORD_WIDTHS = (2 * CELL, 4 * CELL, 6 * CELL)
_LINE_WIDTHS = tuple(range(6 * CELL, 12 * CELL + 1, CELL))
_NO_SHAPES_SHARE = 0.03
_LABELS = (
    "Total Tax Tip Sum Change Subtotal Price Cash Card Paid Balance Discount Amount Qty Item Order Table Room Gate"
    " Seat Flight Train Floor Level Zone Exit Open Closed Push Pull Stop Sale Free Menu Date Time Name City Tel Note"
    " Today Monday Friday Sunday Lunch Dinner Coffee Tea Milk Bread Soup Salad Juice Water Pizza Rice Fish Apples"
)


def draw_word(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """A crop 56 high and 56, 112 or 168 wide that holds one short text.

    `level` 0..1 grows the text's length and, from none to all, the share of crops that vary in colour, place, size,
    tilt and wear; the others are plain black on white, from which reading is learned first.
    """
    text, kind = short_text(rng, split, level)
    draw_crop = _crop if rng.random() < level else _plain_crop
    picture = draw_crop(rng, text, pick_font(rng, split), (12, 36), _WORD_WIDTHS)
    if rng.random() < _NO_SHAPES_SHARE:
        return _no_shapes(rng, split, picture)
    specific = _specific_question(text, kind)
    question = specific if specific and rng.random() < 0.2 else "read"
    return about(picture, ask(rng, question, split), text, "word")


def draw_line(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """A crop 56 high and 168 to 336 wide with one line of two to five words, numbers, dates and prices."""
    count = 2 + rng.randint(0, round(3 * level))
    kinds = rng.choices(("word", "number", "date", "price", "code"), (60, 12, 12, 10, 6), k=count)
    tokens = [token(rng, kind, split) for kind in kinds]
    font = pick_font(rng, split)
    while len(tokens) > 2 and not _readable(font, [" ".join(tokens)], _LINE_WIDTHS[-1] - 2 * _MARGIN, 2 * CELL):
        tokens.pop()
    text = " ".join(tokens)
    picture = _crop(rng, text, font, (12, 22), _LINE_WIDTHS)
    if rng.random() < _NO_SHAPES_SHARE:
        return _no_shapes(rng, split, picture)
    return about(picture, ask(rng, "read", split), text, "line")


def draw_page(rng: random.Random, *, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """A sheet of 112 x 168 to 224 x 224 with one to four short lines: a sign, a label, a receipt or a note.

    turns: up to so many questions about it.
    """
    width, height = rng.randint(4, 8) * CELL, rng.randint(6, 8) * CELL
    lines = _page_lines(rng, split, 1 + rng.randint(0, round(3 * level)))
    font = pick_font(rng, split)
    while width < 8 * CELL and not _readable(font, lines, width - 2 * _PAGE_MARGIN, height):
        width += CELL
    size = width, height
    if rng.random() < _NO_SHAPES_SHARE:
        return _no_shapes(rng, split, _page(rng, lines, font, size, framed=False))
    picture = _page(rng, lines, font, size, framed=rng.random() < 0.2)
    whole = Asked(ask(rng, "read", split), "\n".join(lines), "page")
    single = [_line_asked(rng, split, lines, index) for index in rng.sample(range(len(lines)), min(len(lines), turns))]
    # Either all or one by one: what was read once could be copied.
    first, *more = single if len(lines) > 1 and rng.random() < 0.4 else [whole]
    return talk(ImagePart(picture), first, more, turns)


def _line_asked(rng: random.Random, split: Split, lines: list[str], index: int) -> Asked:
    """A question for one of `lines`; the last has two names."""
    nth = ORDINALS[-1] if index == len(lines) - 1 and rng.random() < 0.5 else ORDINALS[index]
    return Asked(ask(rng, "read line", split, nth=nth), lines[index], "page")


def _no_shapes(rng: random.Random, split: Split, picture: Image.Image) -> Sample:
    return about(picture, ask(rng, "no shapes", split), NO_SHAPES, "honesty")


def _specific_question(text: str, kind: str) -> str | None:
    """The question that names what `text` is, where there is one."""
    if kind == "single":
        return "read letter" if text.isalpha() else "read number" if text.isdigit() else None
    return f"read {kind}" if kind in ("word", "number") else None


# --- one line in a crop ------------------------------------------------------------------------------------


def _plain_crop(
    rng: random.Random, text: str, font: Path, caps: tuple[int, int], widths: tuple[int, ...]
) -> Image.Image:
    """`text` dark on light from the left margin, in middling size, upright and clean."""
    size = rng.uniform(0.6, 0.7) * caps[1] / cap_height(font)
    size = min(size, _fitting_size(font, [text], widths[-1] - 2 * _MARGIN, 2 * CELL - 2 * _MARGIN))
    face, (left, _, right, _) = _fitted(font, size, text, widths[-1] - 2 * _MARGIN)
    width = next((width for width in widths if width >= right - left + 2 * _MARGIN), widths[-1])
    ink, paper = plain_ink_and_paper(rng)
    sheet = Image.new("RGB", (width, 2 * CELL), paper)
    at, pen = (_MARGIN - left, 1.4 * CELL), ImageDraw.Draw(sheet)
    pen.text(at, text, fill=ink, font=face, anchor="ls")
    return marked(sheet, glyphs(face, text, pen.textbbox(at, text, font=face, anchor="ls")))


def _crop(rng: random.Random, text: str, font: Path, caps: tuple[int, int], widths: tuple[int, ...]) -> Image.Image:
    """`text` on one line, 56 high, in the narrowest of `widths` that takes it at the capital height drawn."""
    size = rng.uniform(*caps) / cap_height(font)
    size = min(size, _fitting_size(font, [text], widths[-1] - 2 * _MARGIN, 2 * CELL - 2 * _MARGIN))
    face, (left, top, right, bottom) = _fitted(font, size, text, widths[-1] - 2 * _MARGIN)
    width = next((width for width in widths if width >= right - left + 2 * _MARGIN), widths[-1])
    if width < widths[-1] and rng.random() < 0.15:
        width = widths[widths.index(width) + 1]
    spare_x, spare_y = width - (right - left), 2 * CELL - (bottom - top)
    x = rng.uniform(_MARGIN, spare_x - _MARGIN) if rng.random() < 0.5 else spare_x / 2 + rng.uniform(-2, 2)
    y = spare_y / 2 + rng.uniform(-0.5, 0.5) * max(0.0, spare_y - 2 * _MARGIN)
    mask = Image.new("L", (width, 2 * CELL))
    ImageDraw.Draw(mask).text((x - left, y - top), text, fill=255, font=face)
    marks = glyphs(face, text, (x, y, x + right - left, y + bottom - top))
    if rng.random() < 0.3:
        angle = _tilt(rng, width, min(y, spare_y - y))
        mask, marks = mask.rotate(angle, Image.Resampling.BICUBIC), turned(marks, mask.size, angle)
    ink, paper = ink_and_paper(rng)
    sheet = background(rng, mask.size, paper)
    sheet.paste(ink, mask=mask)
    return marked(wear(rng, sheet), marks)


def _fitted(
    font: Path, size: float, text: str, width: float
) -> tuple[ImageFont.FreeTypeFont, tuple[float, float, float, float]]:
    """The font at or just below `size` and the box of `text` in it."""
    face = open_font(font, _step(size))
    box = face.getbbox(text)
    # Hinted letters are up to a pixel wider than the scaled outline, which adds up over a line.
    while box[2] - box[0] > width and face.size > _MIN_SIZE:
        face = open_font(font, _step(face.size - 1))
        box = face.getbbox(text)
    return face, box


def _tilt(rng: random.Random, width: float, clearance: float) -> float:
    """An angle in degrees, at most 3, that moves nothing within `width` pixels up or down by `clearance` pixels."""
    most = min(3.0, math.degrees(2 * max(0.0, clearance - 1) / width))
    return rng.uniform(-most, most)


def _readable(font: Path, lines: list[str], width: float, height: float) -> bool:
    """Whether `lines` fit `width` and `height` with capitals that are not too small to read."""
    return _fitting_size(font, lines, width, height) * cap_height(font) >= _READABLE_CAPS


def _fitting_size(font: Path, lines: list[str], width: float, height: float) -> float:
    """The largest size in pixels per em at which each of `lines` fits `width` and `height`."""
    reference = 100
    boxes = [open_font(font, reference).getbbox(line) for line in lines]
    return reference * min(min(width / (box[2] - box[0]), height / (box[3] - box[1])) for box in boxes)


def _step(size: float) -> int:
    """A whole size at or just below `size`; large ones go in steps, so that few fonts are open at a time."""
    whole = int(size)
    return max(_MIN_SIZE, whole if whole < 24 else whole - whole % 3)


# --- a sheet of lines --------------------------------------------------------------------------------------


@cache
def _labels(split: Split) -> tuple[str, ...]:
    return tuple(label for label in _LABELS.split() if belongs(label, split))


def _page_lines(rng: random.Random, split: Split, count: int) -> list[str]:
    receipt = rng.random() < 0.35
    return [_receipt_line(rng, split) if receipt else _note_line(rng, split) for _ in range(count)]


def _receipt_line(rng: random.Random, split: Split) -> str:
    label = rng.choice(_labels(split))
    return f"{label}{rng.choice(('', ':'))} {token(rng, rng.choice(('price', 'price', 'number', 'date')), split)}"


def _note_line(rng: random.Random, split: Split) -> str:
    if rng.random() < 0.25:
        return recase(rng, rng.choice(_labels(split)))
    line = " ".join(word(rng, split, 8) for _ in range(rng.randint(1, 3)))
    return recase(rng, line)


def _page(rng: random.Random, lines: list[str], font: Path, size: tuple[int, int], *, framed: bool) -> Image.Image:
    width, height = size
    margin = rng.randint(6, _PAGE_MARGIN)
    fitting = _fitting_size(font, lines, width - 2 * margin, (height - 2 * margin) / len(lines) / 1.2)
    face = open_font(font, _step(min(fitting, rng.uniform(10, 20) / cap_height(font))))
    pitch = face.size * rng.uniform(1.15, 1.6)
    pitch = min(pitch, (height - 2 * margin) / len(lines))
    ink, paper = ink_and_paper(rng)
    sheet = background(rng, size, paper)
    pen = ImageDraw.Draw(sheet)
    if framed:
        pen.rectangle((2, 2, width - 3, height - 3), outline=ink, width=rng.randint(1, 2))
    top = rng.uniform(margin, max(margin, height - margin - pitch * len(lines)))
    align = rng.choice((0.0, 0.0, 0.5, 0.5, 1.0))
    marks = []
    for row, line in enumerate(lines):
        spare = width - 2 * margin - face.getlength(line)
        at = margin + align * spare, top + (row + 0.5) * pitch
        pen.text(at, line, fill=ink, font=face, anchor="lm")
        marks += glyphs(face, line, pen.textbbox(at, line, font=face, anchor="lm"))
    return marked(wear(rng, sheet), marks)
