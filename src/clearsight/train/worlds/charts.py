"""The world "charts": bars, lines and pies with plotted values, and questions about them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image as Pillow

from clearsight.messages import Image

from .ink import RGB
from .names import names, pick
from .questions import absent, phrase
from .sample import Asked, Sample, Split, about, outdone, talk, worked
from .scene import COLOURS
from .sheet import MIN_SIZE, Sheet

_PARTS = {"bars": "bars", "columns": "bars", "line": "points", "pie": "slices"}
_ABSENT_SHARE = 0.06
_PALETTE = [colour for name, colour in COLOURS.items() if name not in ("white", "black")]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is plotted: kind ("columns", "bars", "line" or "pie"), title and values by name; pies add up to 100."""

    kind: str
    title: str
    values: dict[str, int]
    printed: bool  # whether each value is written beside its mark


def draw_charts(rng: random.Random, *, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """A chart of 168 x 168 to 280 x 252; `level` 0..1 grows the number of values and the share without printed ones.

    turns: up to so many questions about it.
    """
    chart = _data(rng, split, level)
    picture = paint_chart(rng, split, chart)
    if rng.random() < _ABSENT_SHARE:
        others = (*names("series", split), *names("series", "train"))
        other = next(name for name in rng.sample(others, len(others)) if name not in chart.values)
        return about(picture, phrase(rng, "chart value", split, name=other), absent(other), "honesty")
    first, *more = (_asked(rng, chart, split) for _ in range(2 * turns - 1))
    return talk(Image(picture), first, more, turns)


def _asked(rng: random.Random, chart: Chart, split: Split) -> Asked:
    section, slots, answer = _question(rng, chart)
    family = {"columns": "bar", "bars": "bar"}.get(chart.kind, chart.kind)
    question = phrase(rng, section, split, **slots)
    topic = " ".join((section, *slots.values()))
    # What tells more of the values comes later.
    late = answer.count(", ") + 1 if ": " in answer else 0
    return Asked(question, answer, f"{family} chart", "result-relaxed", topic, late=late)


def _data(rng: random.Random, split: Split, level: float) -> Chart:
    kind = rng.choice(list(_PARTS))
    count = rng.randint(2, 3 + round(3 * level))
    labels = pick(rng, "month" if kind == "line" and rng.random() < 0.6 else "series", split, count)
    if kind == "pie":
        values = _shares(rng, min(count, 5))
        labels = labels[: len(values)]
    else:
        step = rng.choice((1, 1, 5, 10))
        values = [step * rng.randint(1, 40) for _ in labels]
    # Equal values leave no highest and no lowest.
    while len(set(values)) < len(values):
        return _data(rng, split, level)
    printed = kind == "pie" or rng.random() > 0.5 * level
    title = pick(rng, "topic", split)[0] + (f" {rng.randint(1990, 2035)}" if rng.random() < 0.4 else "")
    return Chart(kind, title, dict(zip(labels, values, strict=True)), printed)


def _shares(rng: random.Random, count: int) -> list[int]:
    """`count` whole percentages of at least 8 that add up to 100."""
    while True:
        cuts = sorted(rng.sample(range(8, 93), count - 1))
        shares = [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]
        if min(shares) >= 8:
            return shares


def _question(rng: random.Random, chart: Chart) -> tuple[str, dict[str, str], str]:
    ranked = sorted(chart.values, key=chart.values.__getitem__)
    name = rng.choice(ranked)
    kind = rng.choices(("value", "highest", "lowest", "count", "difference", "sum", "title"), (40, 12, 12, 8, 9, 9, 10))
    percent = "%" if chart.kind == "pie" else ""
    if kind == ["highest"] or kind == ["lowest"]:
        values = [(name, str(value), value) for name, value in chart.values.items()]
        return f"chart {kind[0]}", {}, outdone(values, max if kind == ["highest"] else min)
    if kind == ["count"]:
        return "chart count", {"parts": _PARTS[chart.kind]}, str(len(ranked))
    if kind == ["title"]:
        return "chart title", {}, chart.title
    if kind == ["difference"] or kind == ["sum"]:
        low, high = sorted(rng.sample(ranked, 2), key=chart.values.__getitem__)
        one, two = chart.values[high], chart.values[low]
        result = one - two if kind == ["difference"] else one + two
        steps = f"{high} {one}{percent}", f"{low} {two}{percent}"
        return f"chart {kind[0]}", {"one": high, "two": low}, worked(steps, f"{result}{percent}")
    # Mark after mark down to the one that is meant, as which value belongs to a name is not seen at once.
    shown = {mark: f"{value}{percent}" for mark, value in chart.values.items()}
    told = [f"{mark} {value}" for mark, value in shown.items()]
    return "chart value", {"name": name}, worked(told[: 1 + list(shown).index(name)], shown[name])


# --- painting ----------------------------------------------------------------------------------------------


def paint_chart(rng: random.Random, split: Split, chart: Chart) -> Pillow.Image:
    sheet = Sheet(rng, split, (rng.randint(7, 10), rng.randint(6, 9)), plain=0.7)
    # Which value belongs to which name is learned where both are easily read.
    size = rng.uniform(10, 13 if split == "test" else 17)
    # Bars and slices need room beside their names.
    while size > MIN_SIZE and max(sheet.measure(name, size) for name in chart.values) > 0.6 * sheet.width:
        size -= 1
    sheet.text((sheet.width / 2, 5), chart.title, size + 2, anchor="mt", room=sheet.width - 10)
    frame = (8.0, 26.0, sheet.width - 8.0, sheet.height - 8.0)
    colours = _colours(rng, sheet.paper, len(chart.values))
    painter = {"columns": _columns, "bars": _bars, "line": _line, "pie": _pie}[chart.kind]
    painter(sheet, chart, frame, size, colours)
    return sheet.finish(tilt=1.0)


def _colours(rng: random.Random, paper: RGB, count: int) -> list[RGB]:
    seen = [colour for colour in _PALETTE if math.dist(colour, paper) > 100]
    if rng.random() < 0.5:
        return [rng.choice(seen)] * count
    return rng.sample(seen, min(count, len(seen))) + seen[: max(0, count - len(seen))]


_Frame = tuple[float, float, float, float]


def _top_of_scale(chart: Chart) -> int:
    """A round number at or above every value."""
    highest = max(chart.values.values())
    unit = next(unit for unit in (1, 2, 5, 10, 20, 50, 100, 200) if unit * 5 >= highest)
    return unit * math.ceil(highest / unit)


def _columns(sheet: Sheet, chart: Chart, frame: _Frame, size: float, colours: list[RGB]) -> None:
    left, top, right, bottom, height = _axes(sheet, chart, frame, size)
    slot = (right - left) / len(chart.values)
    thick = slot * sheet.rng.uniform(0.45, 0.7)
    for index, (name, value) in enumerate(chart.values.items()):
        x, y = left + (index + 0.5) * slot, bottom - (bottom - top) * value / height
        sheet.pen.rectangle((x - thick / 2, y, x + thick / 2, bottom), fill=colours[index])
        _name_and_value(sheet, chart, (x, y, bottom), name, size, slot)


def _line(sheet: Sheet, chart: Chart, frame: _Frame, size: float, colours: list[RGB]) -> None:
    left, top, right, bottom, height = _axes(sheet, chart, frame, size)
    slot = (right - left) / len(chart.values)
    values = chart.values.values()
    points = [(left + (i + 0.5) * slot, bottom - (bottom - top) * value / height) for i, value in enumerate(values)]
    sheet.pen.line(points, fill=colours[0], width=2)
    for (x, y), name in zip(points, chart.values, strict=True):
        sheet.pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colours[0])
        _name_and_value(sheet, chart, (x, y - 3, bottom), name, size, slot)


def _axes(sheet: Sheet, chart: Chart, frame: _Frame, size: float) -> tuple[float, float, float, float, int]:
    """The plotting area (left, top, right, bottom) and the value at its top."""
    left, top, right, bottom = frame
    height = _top_of_scale(chart)
    left, bottom, top = left + sheet.measure(str(height), size) + 4, bottom - size - 6, top + size
    for step in range(6) if not chart.printed or sheet.rng.random() < 0.6 else ():
        value = height * step / 5
        y = bottom - (bottom - top) * step / 5
        sheet.pen.line((left, y, right, y), fill=sheet.faint(0.25))
        sheet.text((left - 4, y), f"{value:g}", size * 0.9, anchor="rm")
    sheet.pen.line(((left, top), (left, bottom), (right, bottom)), fill=sheet.ink)
    return left, top, right, bottom, height


def _name_and_value(
    sheet: Sheet, chart: Chart, at: tuple[float, float, float], name: str, size: float, slot: float
) -> None:
    x, y, bottom = at
    sheet.text((x, bottom + 4), name, size, anchor="mt", room=slot - 2)
    if chart.printed:
        sheet.text((x, y - 2), str(chart.values[name]), size, anchor="mb")


def _bars(sheet: Sheet, chart: Chart, frame: _Frame, size: float, colours: list[RGB]) -> None:
    left, top, right, bottom = frame
    height = _top_of_scale(chart)
    left += max(sheet.measure(name, size) for name in chart.values) + 6
    right -= sheet.measure(str(height), size) + 2
    bottom -= size + 4
    slot = (bottom - top) / len(chart.values)
    for step in range(6) if not chart.printed else ():
        x = left + (right - left) * step / 5
        sheet.pen.line((x, top, x, bottom), fill=sheet.faint(0.25))
        sheet.text((x, bottom + 3), f"{height * step / 5:g}", size * 0.9, anchor="mt")
    for index, (name, value) in enumerate(chart.values.items()):
        y, end = top + (index + 0.5) * slot, left + (right - left) * value / height
        sheet.pen.rectangle((left, y - slot * 0.3, end, y + slot * 0.3), fill=colours[index])
        sheet.text((left - 4, y), name, size, anchor="rm")
        if chart.printed:
            sheet.text((end + 3, y), str(value), size, anchor="lm")
    sheet.pen.line((left, top, left, bottom), fill=sheet.ink)


def _pie(sheet: Sheet, chart: Chart, frame: _Frame, size: float, _colours_unused: list[RGB]) -> None:
    left, top, right, bottom = frame
    colours = sheet.rng.sample(_PALETTE, len(chart.values))
    key = max(sheet.measure(name, size) for name in chart.values) + 18
    radius = min((bottom - top) / 2, (right - left - key) / 2)
    x, y = left + radius, (top + bottom) / 2
    angle = sheet.rng.uniform(0, 360)
    for index, (name, value) in enumerate(chart.values.items()):
        end = angle + 3.6 * value
        sheet.pen.pieslice((x - radius, y - radius, x + radius, y + radius), angle, end, fill=colours[index])
        middle = math.radians((angle + end) / 2)
        at = x + 0.65 * radius * math.cos(middle), y + 0.65 * radius * math.sin(middle)
        sheet.text(at, f"{value}%", size, anchor="mm", fill=(255, 255, 255) if sum(colours[index]) < 380 else (0, 0, 0))
        row = top + 10 + index * (size + 7)
        sheet.pen.rectangle((right - key, row, right - key + 10, row + 10), fill=colours[index])
        sheet.text((right - key + 14, row + 5), name, size, anchor="lm")
        angle = end
