"""The screen in words: what is there, what it leads to or holds, and where to point at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from clearsight.agent.screen.environment import Element
from clearsight.agent.screen.guard import quoted

HOW_TO_READ = (
    'What is on the screen is told line by line: /where/it/leads "what it is called" at x, y; '
    'field "name" = "what it holds" at x, y; or just text. What is below or above is out of sight: scroll there.'
)
LONGEST = 80  # lines
FEW = 3  # lines that changed


def listed(elements: Iterable[Element], hidden: Callable[[str], str] = str) -> str:
    """One line for each element. Their texts stand in quotes, cut, without marks that steer models.

    hidden: takes secrets out of a text; asked first, as nothing of a secret that is cut may stay.
    """
    lines = [line_of(_without_secrets(element, hidden)) for element in elements]
    more = [f"({len(lines) - LONGEST} more)"] if len(lines) > LONGEST else []
    return "\n".join(lines[:LONGEST] + more)


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
    """`/cart "Bag" at 120, 40`, `field "Search" = "mug" at 500, 90`, `/send "Send" below` or `"Nothing here yet."`.

    What is unlike in like things stands where it is looked for: who knows where to go finds the name behind it, and who
    knows the name the place.
    """
    parts = [quoted(element.label, 60)]
    if element.value is not None:
        parts = ["field", *parts, "=", quoted(element.value, 60)]
    elif element.leads:
        parts.insert(0, quoted(element.leads, 60)[1:-1])
    elif element.point or element.away:
        parts.insert(0, "button")
    if element.point:
        parts.append(f"at {element.point[0]}, {element.point[1]}")
    elif element.away:
        parts.append(element.away)
    return " ".join(parts)


def _without_secrets(element: Element, hidden: Callable[[str], str]) -> Element:
    value = None if element.value is None else hidden(element.value)
    return replace(element, label=hidden(element.label), leads=hidden(element.leads), value=value)
