"""The world "calls": a boarding pass, parcel label or weather screen, a tool to call, an answer from its result."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from PIL import Image as Pillow

from clearsight.messages import Image, Message, Text, Tool, ToolCall

from .names import person, pick
from .questions import absent, phrase
from .sample import Sample, Split, belongs
from .sheet import Field, Sheet

_ABSENT_SHARE = 0.06
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"


class Job(NamedTuple):
    """A wish about a picture: the call that serves it, its result, and what the assistant says then."""

    wish: str
    call: ToolCall
    result: dict[str, Any]
    answer: str


def _tool(name: str, **kinds: str) -> Tool:
    properties = {argument: {"type": kind} for argument, kind in kinds.items()}
    return Tool(name, "", {"type": "object", "properties": properties, "required": list(kinds)})


TOOLS = {
    tool.name: tool
    for tool in (
        _tool("flight_status", flight="string"),
        _tool("check_in", flight="string", seat="string"),
        _tool("track_parcel", number="string"),
        _tool("report_damage", number="string", sender="string"),
        _tool("get_forecast", city="string", day="string"),
        _tool("convert_temperature", value="integer", unit="string"),
    )
}


def draw_calls(rng: random.Random, *, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """A document of 196 x 140 to 308 x 224 and a wish; `level` 0..1 grows the number of tools offered up to three.

    turns: above 1, the other wishes about the document follow.
    """
    kind = rng.choice(list(_KINDS))
    picture, jobs = _KINDS[kind](rng, split)
    job = rng.choice(jobs)
    if rng.random() < _ABSENT_SHARE:
        other = rng.choice([name for name in _KINDS if name != kind])
        # The tool for what is not there is at hand, but there is nothing to call it with.
        wish = rng.choice(_KINDS[other](rng, split)[1])
        tools = _offered(rng, {wish.call.name}, level)
        honest = _opening(picture, wish.wish), Message("assistant", (Text(absent(_THINGS[other])),))
        return Sample(messages=honest, skill="honesty", tools=tools)
    messages = (_opening(picture, job.wish), *_served(job))
    if turns > 1:
        others = [later for later in jobs if later is not job][: turns - 1]
        for later in others:
            messages += (Message("user", (Text(later.wish),)), *_served(later))
        tools = _offered(rng, {served.call.name for served in (job, *others)}, level)
        return Sample(messages=messages, skill=f"{kind}: call", metric="tool-call", tools=tools, judged=1)
    tools = _offered(rng, {job.call.name}, level)
    if rng.random() < 0.7:
        return Sample(messages=messages, skill=f"{kind}: call", metric="tool-call", tools=tools, judged=1)
    return Sample(messages=messages, skill="answer from a result", tools=tools)


def example_calls(seed: int) -> list[tuple[ToolCall, str, str]]:
    """One call of every tool, with its result as text and what is said then."""
    rng = random.Random(seed)
    jobs = [job for kind in _KINDS.values() for job in kind(rng, "train")[1]]
    return [(job.call, json.dumps(job.result), job.answer) for job in jobs]


def _opening(picture: Pillow.Image, wish: str) -> Message:
    return Message("user", (Image(picture), Text(wish)))


def _served(job: Job) -> tuple[Message, ...]:
    return (
        Message("assistant", (job.call,)),
        Message("tool", (Text(json.dumps(job.result)),)),
        Message("assistant", (Text(job.answer),)),
    )


def _offered(rng: random.Random, needed: set[str], level: float) -> tuple[Tool, ...]:
    others = [name for name in TOOLS if name not in needed]
    chosen = [*sorted(needed), *rng.sample(others, rng.randint(0, round(2 * level)))]
    rng.shuffle(chosen)
    return tuple(TOOLS[name] for name in chosen)


def _call(tool: str, **arguments: Any) -> ToolCall:
    return ToolCall(tool, json.dumps(arguments))


# --- boarding passes ---------------------------------------------------------------------------------------


def _boarding_pass(rng: random.Random, split: Split) -> tuple[Pillow.Image, list[Job]]:
    flight = _held(rng, split, lambda: _letters(rng, 2) + str(rng.randint(10, 9999)))
    seat, gate = f"{rng.randint(1, 42)}{rng.choice('ABCDEF')}", f"{rng.choice('ABCD')}{rng.randint(1, 60)}"
    start, end = pick(rng, "city", split, 2)
    fields = [
        Field("name", person(rng, split)),
        Field("from", start),
        Field("to", end),
        Field("flight", flight),
        Field("seat", seat),
        Field("gate", gate),
        Field("time", f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"),
    ]
    must = {"flight", "seat"}
    fields = [field for field in fields if field.name in must or rng.random() < 0.75]
    late = rng.choice((0, 0, 10, 15, 20, 30, 45, 60, 90))
    new_gate = f"{rng.choice('ABCD')}{rng.randint(1, 60)}"
    state = {"status": "late" if late else "on time", "minutes": late, "gate": new_gate}
    says = f"Flight {flight} is " + (f"{late} minutes late" if late else "on time") + f", gate {new_gate}."
    code = _letters(rng, 3) + str(rng.randint(100, 999))
    jobs = [
        Job(phrase(rng, "flight status", split), _call("flight_status", flight=flight), state, says),
        Job(
            phrase(rng, "check in", split),
            _call("check_in", flight=flight, seat=seat),
            {"ok": True, "code": code},
            f"You are checked in for {flight}, seat {seat}. Your code is {code}.",
        ),
    ]
    return _card(rng, split, rng.choice(("Boarding pass", "BOARDING PASS", "Ticket")), fields), jobs


# --- parcel labels -----------------------------------------------------------------------------------------


def _parcel_label(rng: random.Random, split: Split) -> tuple[Pillow.Image, list[Job]]:
    number = _held(rng, split, lambda: _letters(rng, rng.randint(0, 2)) + str(rng.randint(10**5, 10**8)))
    sender = pick(rng, "shop", split)[0]
    fields = [
        Field("from", sender),
        Field("to", person(rng, split)),
        Field("street", f"{rng.randint(1, 99)} {pick(rng, 'street', split)[0]}"),
        Field("city", pick(rng, "city", split)[0]),
        Field("weight", f"{rng.uniform(0.2, 20):.1f} kg"),
        Field("number", number),
    ]
    fields = [field for field in fields if field.name in ("from", "number") or rng.random() < 0.75]
    place, day = pick(rng, "city", split)[0], rng.choice(("today", "tomorrow", "on Monday", "on Friday"))
    case = str(rng.randint(100, 9999))
    jobs = [
        Job(
            phrase(rng, "track", split),
            _call("track_parcel", number=number),
            {"place": place, "arrives": day},
            f"Your parcel is in {place} and comes {day}.",
        ),
        Job(
            phrase(rng, "complain", split),
            _call("report_damage", number=number, sender=sender),
            {"case": case},
            f"I told {sender}. Your case number is {case}.",
        ),
    ]
    picture = _card(rng, split, rng.choice(("PARCEL", "Express", "Standard post")), fields, bars=True)
    return picture, jobs


# --- weather screens ---------------------------------------------------------------------------------------


def _weather(rng: random.Random, split: Split) -> tuple[Pillow.Image, list[Job]]:
    city = pick(rng, "city", split)[0]
    unit, other = rng.choice((("celsius", "fahrenheit"), ("fahrenheit", "celsius")))
    value = rng.randint(-20, 40) if unit == "celsius" else rng.randint(0, 105)
    sign = "°C" if unit == "celsius" else "°F"
    sky = rng.choice(("Sunny", "Cloudy", "Rain", "Snow", "Wind", "Fog"))
    sheet = Sheet(rng, split, (rng.randint(6, 8), rng.randint(5, 7)), plain=0.3)
    middle = rng.choice((True, False))
    x, anchor = (sheet.width / 2, "mm") if middle else (14.0, "lm")
    for share, text, size in ((0.2, city, 20), (0.5, f"{value}{sign}", 36), (0.8, sky, 16)):
        sheet.text((x, share * sheet.height), text, size, anchor=anchor, room=sheet.width - 24)
    tomorrow, high = rng.choice(("sunny", "cloudy", "rain", "snow", "wind")), rng.randint(-10, 35)
    converted = round(value * 9 / 5 + 32) if unit == "celsius" else round((value - 32) * 5 / 9)
    jobs = [
        Job(
            phrase(rng, "forecast", split),
            _call("get_forecast", city=city, day="tomorrow"),
            {"sky": tomorrow, "high": high},
            f"Tomorrow in {city}: {tomorrow}, {high} degrees.",
        ),
        Job(
            phrase(rng, "convert", split, unit=other),
            _call("convert_temperature", value=value, unit=other),
            {"value": converted},
            f"It is {converted} degrees {other}.",
        ),
    ]
    return sheet.finish(), jobs


# --- shared ------------------------------------------------------------------------------------------------


def _card(rng: random.Random, split: Split, title: str, fields: list[Field], *, bars: bool = False) -> Pillow.Image:
    """A card with `title` and labelled fields in one or two columns."""
    columns = 1 if bars or rng.random() < 0.4 else 2
    if split == "train" or rng.random() < 0.5:
        rng.shuffle(fields)
    rows = -(-len(fields) // columns)
    sheet = Sheet(rng, split, (rng.randint(8, 11), max(5, min(8, rows + 2))), plain=0.6)
    margin = rng.randint(8, 14)
    top = margin + 24
    foot = 22 if bars else 0
    pitch = (sheet.height - margin - top - foot) / rows
    size = min(17.0, pitch * (0.62 if columns == 1 else 0.45))
    sheet.text((margin, margin), title, 16)
    width = (sheet.width - 2 * margin) / columns
    for index, field in enumerate(fields):
        x, y = margin + width * (index % columns), top + pitch * (index // columns)
        label = field.name.upper() if columns == 2 else field.name.capitalize()
        end = sheet.text((x, y), label, size * 0.8, fill=sheet.faint(0.75))
        at = (x, y + pitch * 0.45) if columns == 2 else (max(margin + 62.0, end[2] + 8), y)
        sheet.text(at, field.value, size, room=width - 6 if columns == 2 else sheet.width - margin - at[0])
    if bars:
        _bar_code(sheet, margin)
    return sheet.finish()


def _bar_code(sheet: Sheet, margin: int) -> None:
    x, bottom = float(margin), sheet.height - margin / 2
    while x < sheet.width - margin - 4:
        thick = sheet.rng.choice((1, 1, 2, 3))
        sheet.pen.rectangle((x, bottom - 18, x + thick - 1, bottom), fill=sheet.ink)
        x += thick + sheet.rng.choice((1, 2, 3))


def _letters(rng: random.Random, number: int) -> str:
    return "".join(rng.choices(_LETTERS, k=number))


def _held(rng: random.Random, split: Split, make: Callable[[], str]) -> str:
    """What `make` makes, drawn again until it belongs to `split`."""
    while True:
        text = make()
        if belongs(text, split):
            return text


_KINDS: dict[str, Callable[[random.Random, Split], tuple[Pillow.Image, list[Job]]]] = {
    "boarding pass": _boarding_pass,
    "parcel label": _parcel_label,
    "weather screen": _weather,
}
_THINGS = {"boarding pass": "boarding pass", "parcel label": "parcel label", "weather screen": "weather"}
