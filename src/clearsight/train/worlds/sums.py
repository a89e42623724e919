"""The world "sums": printed arithmetic, simple geometry with its measures written on it, and clocks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image

from .questions import phrase
from .sample import CELL, Sample, Split, about, belongs, worked
from .sheet import Sheet

_SHEET_SHARE = 0.55
_COMPARED_SHARE = 0.25  # of sheets: that one number is larger than another is needed to say which of several is largest
# Multiples take longer to learn than digits.
_SIGN_SHARES: dict[Split, tuple[int, ...]] = {"train": (25, 25, 30, 20), "test": (35, 35, 20, 10)}
_UNITS = ("cm", "m", "km")
_RIGHT_TRIANGLES = ((3, 4, 5), (6, 8, 10), (5, 12, 13), (9, 12, 15), (8, 15, 17), (12, 16, 20), (7, 24, 25))


def draw_sums(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """A problem on a sheet of 112 x 56 to 196 x 168, in training often several on one of up to 168 x 224.

    `level` 0..1 grows the numbers. Answers show what they come of.
    """
    if split == "train" and rng.random() < _SHEET_SHARE:
        return _sheet(rng, level)
    return rng.choices(list(_TASKS), list(_TASKS.values()))[0](rng, split, level)


def _asked(rng: random.Random, split: Split, picture: Image.Image, section: str, answer: str, skill: str) -> Sample:
    """The problem of `picture`, judged by what its answer comes to."""
    return about(picture, phrase(rng, section, split), answer, skill, "result-exact")


def arithmetic(rng: random.Random, split: Split, level: float) -> tuple[int, str, int, int]:
    """(left, sign, right, result) of a problem of `split`; division leaves no rest."""
    while True:
        sign = rng.choices("+-x:", _SIGN_SHARES[split])[0]
        largest = 10 + round(90 * level)
        left, right = rng.randint(1, largest), rng.randint(1, largest)
        if sign in "x:":
            most = 2 + round(10 * level)
            longest = most + 8 if sign == "x" and split == "train" else most  # sides of areas are as long
            left, right = rng.randint(1, longest), rng.randint(1, most)
        if sign == "-" and left < right:
            left, right = right, left
        if sign == ":":
            left *= right
        if belongs(f"{left} {sign} {right}", split):
            results = {"+": left + right, "-": left - right, "x": left * right, ":": left // right}
            return left, sign, right, results[sign]


def _solved(left: int, sign: str, right: int, result: int) -> str:
    """The problem, its working and its result.

    Sums and differences above ten are worked out from their last digits on; products and quotients by taking one of
    the times after the other, from none to all. What is left is written down, as where it was not, no model learned
    when to stop. The first step only copies, as where it took one already, no model learned to write one less; and the
    last leaves nothing, so that its result is copied.
    """
    problem = f"{left} {sign} {right}"
    if sign == "x":
        return f"{problem}: {worked([f'{left * n}+{left}x{right - n}' for n in range(right + 1)], str(result))}"
    if sign == ":":
        return f"{problem}: {worked([f'{n}+{left - n * right}:{right}' for n in range(result + 1)], str(result))}"
    if max(left, right) < 10:
        return f"{problem}: {result}"
    (tens, last), (other_tens, other_last) = divmod(left, 10), divmod(right, 10)
    if sign == "+":
        carried = (last + other_last) // 10
        steps = f"{last}+{other_last}={last + other_last}", f"{tens}+{other_tens}{'+1' * carried}"
        return f"{problem}: {steps[0]}, {steps[1]}={tens + other_tens + carried}: {result}"
    borrowed = int(last < other_last)
    last += 10 * borrowed
    steps = f"{last}-{other_last}={last - other_last}", f"{tens}-{other_tens}{'-1' * borrowed}"
    return f"{problem}: {steps[0]}, {steps[1]}={tens - other_tens - borrowed}: {result}"


def _line(rng: random.Random, split: Split, level: float) -> Sample:
    left, sign, right, result = arithmetic(rng, split, level)
    sheet = Sheet(rng, split, (rng.randint(4, 6), 2))
    text = _printed(rng, left, sign, right) + rng.choice((" =", " = ?", ""))
    at = sheet.width / 2, sheet.height / 2
    sheet.text(at, text, rng.randint(17, 28), anchor="mm", room=sheet.width - 14)
    return _asked(rng, split, sheet.finish(tilt=4), "sum", _solved(left, sign, right, result), "arithmetic")


def _printed(rng: random.Random, left: int, sign: str, right: int) -> str:
    shown = {"x": rng.choice(("x", "\u00d7")), ":": rng.choice((":", "÷"))}.get(sign, sign)
    return f"{left} {shown} {right}"


def _sheet(rng: random.Random, level: float) -> Sample:
    """Several problems to practise on, all of which are solved: what digits make is learned from each of them."""
    rows = rng.randint(2, 8)
    end = rng.choice((" =", ""))
    if rng.random() < _COMPARED_SHARE:
        section, solved = "compare", [_compared(rng, level) for _ in range(rows)]
    else:
        problems = [arithmetic(rng, "train", level) for _ in range(rows)]
        section, solved = "sums", [(_printed(rng, *problem[:3]) + end, _solved(*problem)) for problem in problems]
    sheet = Sheet(rng, "train", (rng.randint(4, 6), rows))
    size, x = rng.randint(15, 20), rng.randint(8, 28)
    for row, (printed, _) in enumerate(solved):
        sheet.text((x, (row + 0.5) * CELL), printed, size, anchor="lm")
    answer = "\n".join(text for _, text in solved)
    return _asked(rng, "train", sheet.finish(tilt=2), section, answer, "arithmetic")


def _compared(rng: random.Random, level: float) -> tuple[str, str]:
    """Two numbers or prices side by side, and the same with the sign between them."""
    while True:
        if rng.random() < 0.5:
            left, right = (f"{rng.uniform(0.5, rng.choice((10, 60))):.2f}" for _ in range(2))
        else:
            left, right = (str(rng.randint(1, rng.choice((10, 10 + round(190 * level))))) for _ in range(2))
        if left != right:
            break
    blank = rng.choice((" ? ", "   "))
    return f"{left}{blank}{right}", f"{left} {'<' if float(left) < float(right) else '>'} {right}"


def _column(rng: random.Random, split: Split, level: float) -> Sample:
    left, sign, right, result = arithmetic(rng, split, level)
    if sign not in "+-":
        return _line(rng, split, level)
    sheet = Sheet(rng, split, (4, 4))
    size, x = rng.randint(20, 26), sheet.width - rng.randint(16, 40)
    sheet.text((x, 30), str(left), size, anchor="rm")
    sheet.text((x, 58), f"{sign} {right}", size, anchor="rm")
    sheet.pen.line((x - 70, 76, x + 6, 76), fill=sheet.ink, width=2)
    return _asked(rng, split, sheet.finish(tilt=3), "sum", _solved(left, sign, right, result), "arithmetic")


def _rectangle(rng: random.Random, split: Split, level: float) -> Sample:
    width, height = _sides(rng, split, level)
    sheet = Sheet(rng, split, (rng.randint(5, 7), rng.randint(4, 6)), plain=0.6)
    unit = rng.choice(_UNITS)
    room, rise = sheet.width - 70, sheet.height - 50
    box = (14, 12, 14 + room, 12 + rise) if width >= height else (14, 12, 14 + min(room, rise * 0.7), 12 + rise)
    sheet.pen.rectangle(box, outline=sheet.ink, width=2, fill=sheet.faint(0.15))
    sheet.text(((box[0] + box[2]) / 2, box[3] + 5), f"{width} {unit}", 14, anchor="mt")
    sheet.text((box[2] + 5, (box[1] + box[3]) / 2), f"{height} {unit}", 14, anchor="lm", room=sheet.width - box[2] - 7)
    if rng.random() < 0.5:
        short, long = sorted((width, height))
        answer = f"{_solved(long, 'x', short, width * height)} square {unit}"
        return _asked(rng, split, sheet.finish(), "area", answer, "area and perimeter")
    half = width + height
    answer = f"{_solved(width, '+', height, half)}, {_solved(half, '+', half, 2 * half)} {unit}"
    return _asked(rng, split, sheet.finish(), "perimeter", answer, "area and perimeter")


def _sides(rng: random.Random, split: Split, level: float) -> tuple[int, int]:
    while True:
        width, height = (rng.randint(2, 4 + round(16 * level)) for _ in range(2))
        if belongs(f"{width} by {height}", split):
            return width, height


def _angle(rng: random.Random, split: Split, _level: float) -> Sample:
    while True:
        one, two = 5 * rng.randint(6, 20), 5 * rng.randint(6, 20)
        if 180 - one - two >= 30 and belongs(f"{one} and {two}", split):
            break
    sheet = Sheet(rng, split, (7, 5), plain=0.6)
    base, left, bottom = 150.0, 22.0, sheet.height - 18.0
    a, b = math.radians(one), math.radians(two)
    height = min(100.0, base / (1 / math.tan(a) + 1 / math.tan(b)))
    base = height * (1 / math.tan(a) + 1 / math.tan(b))
    corners = [(left, bottom), (left + base, bottom), (left + height / math.tan(a), bottom - height)]
    shift = max(0.0, 20 - min(x for x, _ in corners))
    corners = [(x + shift, y) for x, y in corners]
    sheet.pen.polygon(corners, outline=sheet.ink, fill=sheet.faint(0.12), width=2)
    centre = sum(x for x, _ in corners) / 3, sum(y for _, y in corners) / 3
    for (x, y), text in zip(corners, (f"{one}°", f"{two}°", "?"), strict=True):
        sheet.text((x + 0.42 * (centre[0] - x), y + 0.42 * (centre[1] - y)), text, 12, anchor="mm")
    known = one + two
    answer = f"{_solved(one, '+', two, known)}, {_solved(180, '-', known, 180 - known)} degrees"
    return _asked(rng, split, sheet.finish(tilt=0), "angle", answer, "angle and side")


def _side(rng: random.Random, split: Split, _level: float) -> Sample:
    sides, unit, missing = rng.choice(_RIGHT_TRIANGLES), rng.choice(_UNITS), rng.randrange(3)
    sheet = Sheet(rng, split, (7, 5), plain=0.6)
    scale = min(110 / sides[1], 90 / sides[0])
    left, bottom = 40.0, sheet.height - 28.0
    right, top = left + sides[1] * scale, bottom - sides[0] * scale
    sheet.pen.polygon(((left, bottom), (right, bottom), (left, top)), outline=sheet.ink, width=2)
    sheet.pen.rectangle((left, bottom - 8, left + 8, bottom), outline=sheet.ink)
    labels = ["?" if index == missing else f"{side} {unit}" for index, side in enumerate(sides)]
    sheet.text((left - 4, (top + bottom) / 2), labels[0], 12, anchor="rm", room=36)
    sheet.text(((left + right) / 2, bottom + 4), labels[1], 13, anchor="mt")
    sheet.text(((left + right) / 2 + 6, (top + bottom) / 2 - 4), labels[2], 13, anchor="lb")
    return _asked(rng, split, sheet.finish(tilt=0), "side", f"{sides[missing]} {unit}", "angle and side")


def _clock(rng: random.Random, split: Split, level: float) -> Sample:
    step = 30 if level < 0.5 else 5
    while True:
        hour, minute = rng.randint(1, 12), step * rng.randrange(60 // step)
        if belongs(f"{hour}:{minute:02}", split):
            break
    sheet = Sheet(rng, split, (4, 4), plain=0.5)
    x, y, radius = sheet.width / 2, sheet.height / 2, rng.uniform(40, 50)
    sheet.pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=sheet.ink, width=2)
    for mark in range(12):
        angle = math.radians(30 * mark)
        at = x + 0.8 * radius * math.sin(angle), y - 0.8 * radius * math.cos(angle)
        sheet.text(at, str(mark or 12), 11, anchor="mm")
    for turn, reach, thick in ((30 * hour + minute / 2, 0.42, 4), (6 * minute, 0.66, 2)):
        angle = math.radians(turn)
        end = x + reach * radius * math.sin(angle), y - reach * radius * math.cos(angle)
        sheet.pen.line((x, y, *end), fill=sheet.ink, width=thick)
    return about(sheet.finish(tilt=0), phrase(rng, "clock", split), f"{hour}:{minute:02}", "clock")


_Task = Callable[[random.Random, Split, float], Sample]
_TASKS: dict[_Task, int] = {_line: 40, _column: 15, _rectangle: 14, _angle: 9, _side: 7, _clock: 15}
