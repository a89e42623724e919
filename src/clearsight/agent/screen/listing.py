"""The screen in words: what is there, what it leads to or holds, and the mark to point at it by."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from clearsight.agent.screen.actions import Point
from clearsight.agent.screen.environment import Element
from clearsight.agent.screen.guard import quoted

HOW_TO_READ = (
    'What is on the screen is told line by line: /where/it/leads "what it is called" mark; '
    'field "name" = "what it holds" mark; or just text. Actions name the mark of a line. '
    "What is below or above is out of sight: scroll there."
)
LONGEST = 80  # lines
FEW = 3  # lines that changed
LETTERS = string.ascii_letters
_PAIRS = tuple(map("".join, itertools.product(string.ascii_lowercase, repeat=2)))


@dataclass(frozen=True, slots=True)
class Listing:
    """A screen in words. points: where what has a mark lies, in thousandths of the screen."""

    text: str = ""
    points: Mapping[str, Point] = field(default_factory=dict)


class Marks:
    """Names what can be pointed at by letters: one or two of them are written, and copied, more surely than a place.

    A line that stays keeps its mark from one screen to the next, wherever it moves; one that is gone leaves its mark
    free, to be given out again when all the others have been.
    """

    def __init__(self) -> None:
        self._given: dict[tuple[str, int], str] = {}
        self._next = 0

    def listing(self, elements: Iterable[Element], hidden: Callable[[str], str] = str) -> Listing:
        """One line for each element. Their texts stand in quotes, cut, without marks that steer models.

        hidden: takes secrets out of a text; asked first, as nothing of a secret that is cut may stay.
        """
        shown = [_without_secrets(element, hidden) for element in elements]
        lines = [line_of(element) for element in shown[:LONGEST]]
        # Equal lines are told apart by their order.
        keys = [(line, lines[:place].count(line)) for place, line in enumerate(lines)]
        pointed = {key: element.point for key, element in zip(keys, shown, strict=False) if element.point}
        self._given = {key: mark for key, mark in self._given.items() if key in pointed}
        for key in pointed:
            if key not in self._given:
                self._given[key] = self._free()
        more = [f"({len(shown) - LONGEST} more)"] if len(shown) > LONGEST else []
        told = [f"{key[0]} {self._given[key]}" if key in pointed else key[0] for key in keys]
        return Listing("\n".join(told + more), {self._given[key]: point for key, point in pointed.items()})

    def _free(self) -> str:
        taken = set(self._given.values())
        for step in range(len(LETTERS)):
            mark = LETTERS[(self._next + step) % len(LETTERS)]
            if mark not in taken:
                self._next += step + 1
                return mark
        return next(pair for pair in _PAIRS if pair not in taken)


def news(before: str, now: str) -> str:
    """What to say of a screen after one as in `before`: the lines that are new, or all if many are, if some are gone,
    or if those that stay are not as they were."""
    old, lines = before.split("\n"), now.split("\n")
    new, gone = [line for line in lines if line not in old], [line for line in old if line not in lines]
    moved = [line for line in lines if line in old] != [line for line in old if line in lines]
    if moved or len(new) > min(FEW, len(lines) // 2) or len(gone) > len(new):
        return now
    return "\n".join(["All as before but:", *new] if new else ["All as before."])


def line_of(element: Element) -> str:
    """`/cart "Bag"`, `field "Search" = "mug"`, `/send "Send" below` or `"Nothing here yet."`; a mark follows.

    What is unlike in like things stands where it is looked for: who knows where to go finds the name behind it, and who
    knows the name the mark.
    """
    parts = [quoted(element.label, 60)]
    if element.value is not None:
        parts = ["field", *parts, "=", quoted(element.value, 60)]
    elif element.leads:
        parts.insert(0, quoted(element.leads, 60)[1:-1])
    elif element.point or element.away:
        parts.insert(0, "button")
    if element.away and not element.point:
        parts.append(element.away)
    return " ".join(parts)


def _without_secrets(element: Element, hidden: Callable[[str], str]) -> Element:
    value = None if element.value is None else hidden(element.value)
    return replace(element, label=hidden(element.label), leads=hidden(element.leads), value=value)
