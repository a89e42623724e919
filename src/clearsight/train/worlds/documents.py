"""The world "documents": receipts, forms, tables and letters, with questions about their fields."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image as Pillow

from clearsight.messages import Image

from .marks import TICK_BOX, Mark
from .names import person, pick
from .questions import absent, phrase
from .sample import Asked, Metric, Sample, Split, about, belongs, outdone, talk, worked
from .sheet import Field, Sheet
from .tokens import token

_ABSENT_SHARE = 0.08
_RANK_SHARE = 0.5  # of training's receipts: what is dearest is asked for, not each price
_PRACTICE = 3  # times as often as others comes in training what is worked out; once in a dialogue
_SHORT_SHARE = 0.4  # of training: to find one of two rows is learned before one of five


_WORKED = ("dearest", "cheapest", "row of")  # shown step by step, which tells much of what is there

# Section of questions.txt, slots, answer, metric.
Ask = tuple[str, dict[str, str], str, Metric]


class Page(NamedTuple):
    """A drawn document, and what can be asked about it."""

    picture: Pillow.Image
    fields: list[Field]
    asks: list[Ask]
    missing: list[str]  # fields that documents of the kind may have and this one has not


def draw_documents(rng: random.Random, *, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """A receipt, form, table or letter of 168 x 168 to 336 x 336; `level` 0..1 grows the number of its lines.

    turns: up to so many questions about it.
    """
    if split == "train" and rng.random() < _SHORT_SHARE:
        level *= rng.random()
    kind = rng.choices(list(_KINDS), _SHARES)[0] if split == "train" else rng.choice(list(_KINDS))
    page = _KINDS[kind](rng, split, level)
    if page.missing and rng.random() < _ABSENT_SHARE:
        name = rng.choice(page.missing)
        return about(page.picture, phrase(rng, "field", split, name=name), absent(name), "honesty")
    asks = [*page.asks, *(("field", {"name": field.name}, field.value, "anls") for field in page.fields)]
    first, *more = (_asked(rng, kind, ask, split) for ask in rng.sample(asks, min(len(asks), max(1, turns))))
    return talk(Image(page.picture), first, more, turns)


def _asked(rng: random.Random, kind: str, ask: Ask, split: Split) -> Asked:
    section, slots, answer, metric = ask
    skill = f"{kind} field" if metric == "anls" else f"{kind} count or tick"
    question = phrase(rng, section, split, **slots)
    topic = " ".join((section, *slots.values())) if metric == "exact" else ""
    if kind in ("receipt", "table") and metric == "anls":
        metric = "result-anls"
    return Asked(question, answer, skill, metric, topic, late=int(section in _WORKED))


# --- receipts ----------------------------------------------------------------------------------------------


class Purchase(NamedTuple):
    """What a receipt says, as it is printed, and what may be asked about its goods."""

    head: list[Field]
    goods: list[Field]  # with their prices
    foot: list[Field]  # ends with the total
    missing: list[str]  # fields that receipts may have and this one has not
    prices: list[Ask]
    ranks: list[Ask]  # what is dearest and what is cheapest, if there are two goods


def purchase(rng: random.Random, split: Split, level: float) -> Purchase:
    """One to five goods with their prices; `level` 0..1 grows their number."""
    count = 1 + rng.randint(0, round(4 * level))
    goods = pick(rng, "goods", split, count)
    prices = [_amount(rng, split) for _ in goods]
    tax = round(sum(prices) * rng.choice((0.05, 0.07, 0.1, 0.19, 0.2)), 2)
    head = [Field("shop", pick(rng, "shop", split)[0]), Field("date", _day(rng, split))]
    optional = [
        Field("subtotal", f"{sum(prices):.2f}"),
        Field("tax", f"{tax:.2f}"),
        Field("table", str(rng.randint(1, 40))),
        Field("receipt number", str(rng.randint(1000, 99999))),
        Field("payment", rng.choice(("cash", "card", "phone"))),
    ]
    shown = [field for field in optional if rng.random() < 0.25 + 0.35 * level]
    missing = [field.name for field in optional if field not in shown]
    total = sum(prices) + (tax if any(field.name == "tax" for field in shown) else 0)
    foot = [*shown, Field("total", f"{total:.2f}")]
    currency = rng.choice(("", "", "$", "€"))
    bought = [Field(good, currency + f"{price:.2f}") for good, price in zip(goods, prices, strict=True)]
    foot = [Field(f.name, currency + f.value if _is_amount(f) else f.value) for f in foot]
    asked: list[Ask] = [("price of", {"name": good}, price, "anls") for good, price in bought]
    ranks: list[Ask] = []
    if count > 1 and len(set(prices)) == count:
        priced = [(good, shown, price) for (good, shown), price in zip(bought, prices, strict=True)]
        # What is printed below the goods is named last: the end has to be looked for.
        dearest, cheapest = (outdone(priced, best, end=foot[0].name) for best in (max, min))
        ranks = [("dearest", {}, dearest, "anls"), ("cheapest", {}, cheapest, "anls")]
    return Purchase(head, bought, foot, missing, asked, ranks)


def _receipt(rng: random.Random, split: Split, level: float) -> Page:
    head, goods, foot, missing, asks, ranks = purchase(rng, split, level)
    picture = _receipt_picture(rng, split, head, goods, foot)
    items: Ask = ("items", {}, str(len(goods)), "exact")
    asks = [*asks, items]
    if ranks and split == "train" and rng.random() < _RANK_SHARE:
        asks = [items, *[rng.choice(ranks)] * _PRACTICE]  # which tells all prices
    elif split == "test":
        asks += ranks
    return Page(picture, [*head, *foot, foot[-1]], asks, missing)


def _receipt_picture(
    rng: random.Random, split: Split, head: list[Field], goods: list[Field], foot: list[Field]
) -> Pillow.Image:
    shown = [*goods, *foot]
    rows = len(shown) + 2.6
    sheet = Sheet(rng, split, (rng.randint(6, 9), min(12, max(6, round(rows * rng.uniform(0.75, 1.0))))), plain=0.7)
    style = rng.choice(("columns", "columns", "dots", "boxed") if split == "test" else ("columns", "columns", "dots"))
    margin = rng.randint(8, 16)
    pitch = (sheet.height - 2 * margin) / rows
    size = min(18.0, pitch * rng.uniform(0.72, 0.9))
    room = sheet.width - 2 * margin
    sheet.text((sheet.width / 2, margin), head[0].value, size * 1.15, anchor="mt", room=room)
    y = margin + 1.3 * pitch
    if rng.random() < 0.5:
        sheet.text((margin, y), head[1].value, size, anchor="lt", room=room)
    else:
        sheet.text((sheet.width / 2, y), head[1].value, size, anchor="mt", room=room)
    y += 1.3 * pitch
    for row, (label, value) in enumerate(shown):
        if row == len(goods):
            sheet.pen.line((margin, y - 2, sheet.width - margin, y - 2), fill=sheet.faint())
        label = _cased(label, row, len(shown))
        _receipt_line(sheet, (margin, y), label, value, (size, pitch), style)
        y += pitch
    return sheet.finish()


def _receipt_line(
    sheet: Sheet, at: tuple[float, float], label: str, value: str, sizes: tuple[float, float], style: str
) -> None:
    (margin, y), (size, pitch) = at, sizes
    right = sheet.width - margin
    if style == "boxed":
        sheet.pen.rectangle((margin - 3, y - 1, right + 3, y + pitch - 2), outline=sheet.faint(0.3))
    left_end = sheet.text((margin, y + pitch * 0.42), label, size, anchor="lm", room=0.55 * (right - margin))[2]
    start = sheet.text((right, y + pitch * 0.42), value, size, anchor="rm", room=0.42 * (right - margin))[0]
    if style == "dots":
        for x in range(int(left_end) + 5, int(start) - 4, 5):
            sheet.pen.point((x, y + pitch * 0.62), fill=sheet.ink)


def _cased(label: str, row: int, rows: int) -> str:
    return label.upper() if row == rows - 1 else label.capitalize()


def _is_amount(field: Field) -> bool:
    return field.name in ("subtotal", "tax", "total")


def _day(rng: random.Random, split: Split) -> str:
    """A date; what goes by that name among the tokens may also be a time of day or a year."""
    while True:
        day = token(rng, "date", split)
        if len(day) > 5:
            return day


def _amount(rng: random.Random, split: Split) -> float:
    """A price whose digits belong to the split."""
    while True:
        price = round(rng.choice((rng.uniform(0.5, 10), rng.uniform(1, 60))), 2)
        if belongs(f"{price:.2f}", split):
            return price


# --- forms -------------------------------------------------------------------------------------------------


def _form(rng: random.Random, split: Split, level: float) -> Page:
    known: dict[str, Callable[[], str]] = {
        "name": lambda: person(rng, split),
        "city": lambda: pick(rng, "city", split)[0],
        "street": lambda: f"{rng.randint(1, 99)} {pick(rng, 'street', split)[0]}",
        "date of birth": lambda: f"{rng.randint(1, 28):02}/{rng.randint(1, 12):02}/{rng.randint(1940, 2015)}",
        "phone": lambda: f"{rng.randint(100, 999)} {rng.randint(1000, 9999)}",
        "policy number": lambda: token(rng, "code", split),
        "room": lambda: str(rng.randint(1, 600)),
        "age": lambda: str(rng.randint(1, 99)),
        "email": lambda: f"{pick(rng, 'first', split)[0].lower()}@{rng.choice(('mail', 'post', 'web'))}.com",
    }
    chosen = rng.sample(list(known), 2 + rng.randint(0, round(3 * level)))
    fields = [Field(name, known[name]()) for name in chosen]
    ticks = [(name, rng.random() < 0.5) for name in pick(rng, "tick", split, rng.randint(0, 2))]
    picture = _form_picture(rng, split, fields, ticks)
    asks: list[Ask] = [("ticked", {"name": name}, "yes" if yes else "no", "exact") for name, yes in ticks]
    return Page(picture, fields, asks, [name for name in known if name not in chosen])


def _form_picture(rng: random.Random, split: Split, fields: list[Field], ticks: list[tuple[str, bool]]) -> Pillow.Image:
    rows = len(fields) + len(ticks) + 1.2
    style = rng.choice(("colon", "line", "box", "above", *["two columns"] * (split == "test")))
    tall = 1.5 if style == "above" else 1.0
    sheet = Sheet(rng, split, (rng.randint(8, 11), min(12, max(6, round(rows * tall)))), plain=0.6)
    margin = rng.randint(8, 16)
    pitch = (sheet.height - 2 * margin) / rows
    size = min(17.0, pitch / tall * rng.uniform(0.55, 0.75))
    sheet.text((margin, margin), rng.choice(("Form", "Registration", "Application", "Order form")), size * 1.2)
    y = margin + 1.2 * pitch
    column = margin + max(sheet.measure(field.name, size) for field in fields) + 12
    for field in fields:
        _form_line(sheet, (margin, column, y), field, (size, pitch), style)
        y += pitch
    for name, yes in ticks:
        _tick_box(sheet, (margin, y + pitch * 0.15), size, yes)
        sheet.text((margin + size * 1.6, y + pitch * 0.15 + size / 2), name, size, anchor="lm")
        y += pitch
    return sheet.finish()


def _form_line(
    sheet: Sheet, at: tuple[float, float, float], field: Field, sizes: tuple[float, float], style: str
) -> None:
    (margin, column, y), (size, pitch) = at, sizes
    label = field.name.capitalize()
    right = sheet.width - margin
    if style == "above":
        sheet.text((margin, y), label, size * 0.85, fill=sheet.faint(0.75))
        sheet.text((margin, y + pitch * 0.5), field.value, size, room=right - margin)
        return
    middle = y + pitch * 0.4
    sheet.text((margin, middle), label + ":" * (style == "colon"), size, anchor="lm")
    sheet.text((column, middle), field.value, size, anchor="lm", room=right - column)
    if style == "line":
        sheet.pen.line((column, middle + size * 0.7, right, middle + size * 0.7), fill=sheet.faint())
    elif style == "box":
        sheet.pen.rectangle((column - 4, middle - size * 0.75, right, middle + size * 0.8), outline=sheet.faint())
    elif style == "two columns":
        sheet.pen.line((column - 6, y, column - 6, y + pitch), fill=sheet.ink)


def _tick_box(sheet: Sheet, at: tuple[float, float], size: float, ticked: bool) -> None:
    x, y = at
    sheet.pen.rectangle((x, y, x + size, y + size), outline=sheet.ink, width=1)
    sheet.marks.append(Mark(TICK_BOX[: 1 + ticked], x + size / 2, y + size / 2, size / 2, size / 2))
    if ticked and sheet.rng.random() < 0.5:
        sheet.pen.line((x + 2, y + 2, x + size - 2, y + size - 2), fill=sheet.ink, width=2)
        sheet.pen.line((x + 2, y + size - 2, x + size - 2, y + 2), fill=sheet.ink, width=2)
    elif ticked:
        sheet.pen.line(
            ((x + 2, y + size * 0.5), (x + size * 0.4, y + size - 2), (x + size - 1, y + 1)), fill=sheet.ink, width=2
        )


# --- tables ------------------------------------------------------------------------------------------------

_COLUMNS: dict[str, Callable[[random.Random, Split], str]] = {
    "age": lambda rng, _: str(rng.randint(5, 99)),
    "city": lambda rng, split: pick(rng, "city", split)[0],
    "score": lambda rng, _: str(rng.randint(0, 100)),
    "price": lambda rng, split: f"{_amount(rng, split):.2f}",
    "date": _day,
    "room": lambda rng, _: str(rng.randint(1, 400)),
    "team": lambda rng, _: rng.choice(("red", "blue", "green", "yellow", "white", "black")),
    "code": lambda rng, split: token(rng, "code", split),
}


def _table(rng: random.Random, split: Split, level: float) -> Page:
    columns = rng.sample(list(_COLUMNS), 1 + rng.randint(0, round(1.4 * level)))
    rows = pick(rng, "first", split, 2 + rng.randint(0, round(3 * level)))
    cells = {row: [_COLUMNS[column](rng, split) for column in columns] for row in rows}
    picture = _table_picture(rng, split, columns, cells)
    asks: list[Ask] = [("rows", {}, str(len(rows)), "exact")]
    for index, column in enumerate(columns):
        values = [cells[row][index] for row in rows]
        (back,) = rng.sample(rows, 1)
        unique = values.count(cells[back][index]) == 1
        # In a dialogue cells could be copied from the search of a row, so training asks for one or the other.
        only_back = split == "train" and unique and rng.random() >= 0.5
        if not only_back:
            asks += [("cell", {"column": column, "row": row}, cells[row][index], "anls") for row in rows]
        if only_back or (unique and split == "test"):
            steps = [f"{row} {cells[row][index]}" for row in rows[: 1 + rows.index(back)]]
            slots = {"column": column, "value": cells[back][index]}
            asks += [("row of", slots, worked(steps, back), "anls")] * (_PRACTICE if split == "train" else 1)
    return Page(picture, [], asks, [name for name in _COLUMNS if name not in columns])


def _table_picture(rng: random.Random, split: Split, columns: list[str], cells: dict[str, list[str]]) -> Pillow.Image:
    grid = [["name", *columns], *([row, *values] for row, values in cells.items())]
    sheet = Sheet(rng, split, (min(12, 4 * len(grid[0]) - rng.randint(0, 1)), max(6, len(grid) + rng.randint(0, 2))))
    margin = rng.randint(6, 12)
    width, height = (sheet.width - 2 * margin) / len(grid[0]), (sheet.height - 2 * margin) / len(grid)
    size = min(17.0, height * rng.uniform(0.5, 0.65))
    lines = rng.choice(("all", "rows", "head", "shaded"))
    for r, row in enumerate(grid):
        top = margin + r * height
        if lines == "shaded" and r % 2 == 0:
            sheet.pen.rectangle((margin, top, sheet.width - margin, top + height), fill=sheet.faint(0.12))
        if lines == "rows" or (lines == "head" and r == 1):
            sheet.pen.line((margin, top, sheet.width - margin, top), fill=sheet.ink)
        for c, text in enumerate(row):
            left = margin + c * width
            if lines == "all":
                sheet.pen.rectangle((left, top, left + width, top + height), outline=sheet.faint(0.6))
            text = text.capitalize() if r == 0 else text
            sheet.text((left + 5, top + height / 2), text, size, anchor="lm", room=width - 8)
    return sheet.finish()


# --- letters -----------------------------------------------------------------------------------------------

_BODIES = (
    "thank you for the {0}.",
    "please send us {1} {0}.",
    "we got your {0}.",
    "the {0} came too late.",
    "I will bring {1} {0}.",
    "can you buy {1} {0}?",
    "see you in {2}.",
    "I am now in {2}.",
)
_CLOSINGS = ("Yours", "Best wishes", "Love", "Regards", "Sincerely")


def _letter(rng: random.Random, split: Split, level: float) -> Page:
    reader, writer = pick(rng, "first", split, 2)
    day, place = _day(rng, split), pick(rng, "city", split)[0]
    slots = pick(rng, "goods", split)[0], str(rng.randint(2, 20)), pick(rng, "city", split)[0]
    body = [line.format(*slots) for line in rng.sample(_BODIES, 1 + rng.randint(0, round(2 * level)))]
    opening = rng.choice(("Dear", "Hello", "Hi"))
    sheet = Sheet(rng, split, (rng.randint(8, 10), 6 + len(body)), plain=0.5)
    margin = rng.randint(10, 18)
    lines = [f"{opening} {reader},", *body, rng.choice(_CLOSINGS) + ",", writer]
    pitch = (sheet.height - 2 * margin) / (len(lines) + 1.5)
    size, room = min(18.0, pitch * rng.uniform(0.62, 0.8)), sheet.width - 2 * margin
    sheet.text((sheet.width - margin, margin), f"{place}, {day}", size, anchor="rt", room=room)
    for row, line in enumerate(lines):
        sheet.text((margin, margin + (row + 1.5) * pitch), line, size, room=room)
    asks: list[Ask] = [("from", {}, writer, "anls"), ("to", {}, reader, "anls")]
    fields = [Field("date", day), Field("place", place)]
    return Page(sheet.finish(), fields, asks, ["phone number", "price", "table"])


_KINDS: dict[str, Callable[[random.Random, Split, float], Page]] = {
    "receipt": _receipt,
    "form": _form,
    "table": _table,
    "letter": _letter,
}
_SHARES = (3, 2, 3, 1)  # of training: what takes longest to learn comes most often
