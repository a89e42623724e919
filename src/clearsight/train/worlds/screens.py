"""The world "screens": app screens from a browser; what is at a point, where an element is, what to press next."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image as Pillow

from clearsight.messages import Box, Image, Message, Point, Ref, Text

from .boxes import thousandths
from .browser import screens_folder
from .ink import wear
from .marks import Corners
from .questions import absent, phrase
from .sample import Sample, Split, about

_ABSENT = ("the button Help", "the button Share", "the switch Night light", "the field Comment", "the button Print")


class Screen(NamedTuple):
    """A rendered screen. elements: boxes in pixels by name. goals: wishes by the name of the element to press."""

    picture: Pillow.Image
    elements: dict[str, Corners]
    goals: dict[str, list[str]]


def draw_screens(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """A question about one of the rendered screens; `level` below 0.5 asks only where elements are.

    Raises FileNotFoundError where none have been rendered (see browser.py).
    """
    screen = load_screen(rng.randrange(_count(screens_folder() / split)), split)
    name = rng.choice(list(screen.elements))
    kind = rng.choices(("point", "name", "goal", "absent"), (35, 30, 28, 7))[0] if level >= 0.5 else "point"
    picture = wear(rng, screen.picture)
    if kind == "absent":
        missing = rng.choice(_ABSENT)
        question = phrase(rng, "point to", split, name=missing)
        return about(picture, question, absent(missing.removeprefix("the ")), "honesty")
    if kind == "name":
        return _name_at(rng, split, screen, picture, name)
    able = [element for element, goals in screen.goals.items() if goals and element in screen.elements]
    if kind == "goal" and able:
        name = rng.choice(able)
        question = phrase(rng, "goal", split, goal=rng.choice(screen.goals[name]))
        return _pointing(picture, question, name, screen.elements[name], "next action on a screen")
    question = phrase(rng, "point to", split, name=name)
    return _pointing(picture, question, name, screen.elements[name], "element on a screen")


def _pointing(picture: Pillow.Image, question: str, name: str, corners: Corners, skill: str) -> Sample:
    box = thousandths(corners, picture.size)
    answer = (Ref(name), Point((box.x1 + box.x2) // 2, (box.y1 + box.y2) // 2))
    messages = Message("user", (Image(picture), Text(question))), Message("assistant", answer)
    return Sample(messages=messages, skill=skill, metric="point-in-box", region=box)


def _name_at(rng: random.Random, split: Split, screen: Screen, picture: Pillow.Image, name: str) -> Sample:
    box: Box = thousandths(screen.elements[name], picture.size)
    width, height = box.x2 - box.x1, box.y2 - box.y1
    point = Point(box.x1 + round(rng.uniform(0.2, 0.8) * width), box.y1 + round(rng.uniform(0.2, 0.8) * height))
    user = Message("user", (Image(picture), Text(phrase(rng, "element at", split) + " "), point, Text("?")))
    return Sample(messages=(user, Message("assistant", (Text(name),))), skill="name what is at a point", metric="anls")


@lru_cache(maxsize=4096)
def load_screen(index: int, split: Split) -> Screen:
    """Rendered screen number `index`, kept in memory."""
    path = screens_folder() / split / f"{index}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    elements = {name: (left, top, right, bottom) for name, left, top, right, bottom in record["elements"]}
    with Pillow.open(path.with_suffix(".png")) as picture:
        return Screen(picture.convert("RGB"), elements, record["goals"])


@lru_cache(maxsize=16)
def _count(folder: Path) -> int:
    count = sum(1 for _ in folder.glob("*.json"))
    if not count:
        raise FileNotFoundError(
            f"no rendered screens in {folder}; make them: python -m clearsight.train.worlds --screens 2000"
        )
    return count
