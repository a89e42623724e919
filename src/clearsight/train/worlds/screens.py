"""The world "screens": app screens from a browser; what is at a point, where an element is, what to press next."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image as Pillow

from clearsight.messages import Image, Point, Ref, Text

from .boxes import thousandths
from .browser import screens_folder
from .ink import wear
from .marks import Corners, Mark, marked
from .questions import absent, phrase
from .sample import Asked, Sample, Split, talk

_ABSENT = ("the button Help", "the button Share", "the switch Night light", "the field Comment", "the button Print")
_KINDS = {"point": 35, "name": 30, "goal": 28, "absent": 7}


class Screen(NamedTuple):
    """A rendered screen, with the marks of its characters.

    elements: boxes in pixels by name. goals: wishes by the name of the element to press.
    """

    picture: Pillow.Image
    elements: dict[str, Corners]
    goals: dict[str, list[str]]
    marks: tuple[Mark, ...]


def draw_screens(rng: random.Random, *, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """A question about one of the rendered screens; `level` below 0.5 asks only where elements are.

    turns: up to so many questions about it, each about another element. Raises FileNotFoundError where none have been
    rendered (see browser.py).
    """
    screen = load_screen(rng.randrange(_count(screens_folder() / split)), split)
    name = rng.choice(list(screen.elements))
    kind = _kind(rng, level, _KINDS)
    picture = marked(wear(rng, screen.picture), screen.marks)
    if kind == "goal" and (able := [element for element in screen.elements if screen.goals.get(element)]):
        name = rng.choice(able)
    first = _asked(rng, split, screen, kind, name)
    return talk(Image(picture), first, _further(rng, split, screen, level, name), turns)


def _further(rng: random.Random, split: Split, screen: Screen, level: float, known: str) -> Iterator[Asked]:
    """About the other elements in any order."""
    kinds = {kind: share for kind, share in _KINDS.items() if kind != "absent"}
    others = [name for name in screen.elements if name != known]
    for name in rng.sample(others, len(others)):
        yield _asked(rng, split, screen, _kind(rng, level, kinds), name)


def _kind(rng: random.Random, level: float, kinds: dict[str, int]) -> str:
    return rng.choices(list(kinds), list(kinds.values()))[0] if level >= 0.5 else "point"


def _asked(rng: random.Random, split: Split, screen: Screen, kind: str, name: str) -> Asked:
    """A question of that kind about the element `name`, where it is if no goal leads to it."""
    if kind == "absent":
        missing = rng.choice(_ABSENT)
        return Asked(phrase(rng, "point to", split, name=missing), absent(missing.removeprefix("the ")), "honesty")
    box = thousandths(screen.elements[name], screen.picture.size)
    if kind == "name":
        width, height = box.x2 - box.x1, box.y2 - box.y1
        point = Point(box.x1 + round(rng.uniform(0.2, 0.8) * width), box.y1 + round(rng.uniform(0.2, 0.8) * height))
        here = Text(phrase(rng, "element at", split) + " "), point, Text("?")
        return Asked(here, name, "name what is at a point", "anls")
    if kind == "goal" and (goals := screen.goals.get(name)):
        question, skill = phrase(rng, "goal", split, goal=rng.choice(goals)), "next action on a screen"
    else:
        question, skill = phrase(rng, "point to", split, name=name), "element on a screen"
    answer = (Ref(name), Point((box.x1 + box.x2) // 2, (box.y1 + box.y2) // 2))
    return Asked(question, answer, skill, "point-in-box", region=box)


@lru_cache(maxsize=4096)
def load_screen(index: int, split: Split) -> Screen:
    """Rendered screen number `index`, kept in memory."""
    path = screens_folder() / split / f"{index}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    elements = {name: (left, top, right, bottom) for name, left, top, right, bottom in record["elements"]}
    if "characters" not in record:
        raise FileNotFoundError(
            f"{path} is of an earlier version; delete {path.parents[1]} and render the screens again"
        )
    marks = tuple(
        Mark((character,), (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)
        for character, left, top, right, bottom in record["characters"]
    )
    with Pillow.open(path.with_suffix(".png")) as picture:
        return Screen(picture.convert("RGB"), elements, record["goals"], marks)


@lru_cache(maxsize=16)
def _count(folder: Path) -> int:
    count = sum(1 for _ in folder.glob("*.json"))
    if not count:
        raise FileNotFoundError(
            f"no rendered screens in {folder}; make them: python -m clearsight.train.worlds --screens 2000"
        )
    return count
