"""What can be done on a screen: the paper's actions and a few more, as tools and read back (facts, 8.2 and 8.3)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clearsight.messages import Tool, ToolCall

DIRECTIONS = ("up", "down", "left", "right")
KEYS = ("Tab", "Escape", "Backspace", "Delete", "Space", "Up", "Down", "Left", "Right", "PageUp", "PageDown")
LONGEST_WAIT = 10.0
LONGEST_TEXT = 2000

Point = tuple[int, int]


class ActionError(ValueError):
    """An action cannot be read or lies outside the screen; one sentence, for the model."""


@dataclass(frozen=True, slots=True)
class Action:
    """name: one of ACTIONS. point: thousandths of the screen's width and height. mark: what the screen in words calls
    the place; where a mark is told, it stands for a point. seconds: for Wait."""

    name: str
    point: Point | None = None
    mark: str = ""
    text: str = ""
    direction: str = ""
    key: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        place = f"{self.point[0]}, {self.point[1]}" if self.point else ""
        text = json.dumps(self.text, ensure_ascii=False) if self.text else ""
        seconds = f"{self.seconds:g} s" if self.seconds else ""
        return f"{self.name}({', '.join(filter(None, (place, text, self.direction, self.key, seconds)))})"

    @property
    def arguments(self) -> dict[str, Any]:
        """As the model writes them."""
        written = {"point": self.point and not self.mark and f"({self.point[0]}, {self.point[1]})"}
        plain = {name: getattr(self, name) for name in ("mark", "text", "direction", "key", "seconds")}
        return {name: value for name, value in {**written, **plain}.items() if value}

    def call(self, identity: str = "") -> ToolCall:
        return ToolCall(self.name, json.dumps(self.arguments, ensure_ascii=False), identity)


_POINT = {
    "type": "string",
    "description": '"(x, y)", each from 0 to 1000 of the screen',
    "pattern": r"^\(\d{1,4}, \d{1,4}\)$",
}
_MARK = {
    "type": "string",
    "description": "the letters at the end of its line",
    "pattern": "^[A-Za-z]{1,2}$",
}
_DIRECTION = {"type": "string", "enum": list(DIRECTIONS)}

# How a model says where: by what it is shown of the screen.
POINTING: dict[str, dict[str, Any]] = {
    "picture": {"point": _POINT},
    "elements": {"mark": _MARK},
    "both": {"point": _POINT, "mark": _MARK},
}

# name: (what it does, its parameters, those of them that may be left out)
ACTIONS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "Click": ("Click or tap.", {"point": _POINT}, ()),
    "LongPress": ("Press and hold.", {"point": _POINT}, ()),
    "Type": ("Type into the field that has the focus.", {"text": {"type": "string"}}, ()),
    "Swipe": ("Drag a finger; up shows what is further down.", {"direction": _DIRECTION}, ()),
    "Scroll": ("Show what is further in a direction.", {"direction": _DIRECTION, "point": _POINT}, ("point",)),
    "Key": ("Press a key.", {"key": {"type": "string", "enum": list(KEYS)}}, ()),
    "Enter": ("Press Enter.", {}, ()),
    "Back": ("Go back.", {}, ()),
    "Home": ("Go to the start.", {}, ()),
    "Wait": ("Wait for the screen.", {"seconds": {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT}}, ()),
    "Done": ("The task is finished.", {}, ()),
}


def action_tools(names: Iterable[str] = tuple(ACTIONS), observe: str = "picture") -> list[Tool]:
    """As tools, all or some of them, for a model that is shown the screen in this way (POINTING).

    Raises KeyError for a name that is none.
    """
    return [Tool(name, ACTIONS[name][0], _parameters(*ACTIONS[name][1:], POINTING[observe])) for name in names]


def _parameters(fields: Mapping[str, Any], free: tuple[str, ...], pointing: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, field in fields.items():
        properties |= pointing if name == "point" else {name: field}
    # Of two ways to say where, one is left out.
    optional = {*free, *(pointing if "point" in free or len(pointing) > 1 else ())}
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def read_action(call: ToolCall, observe: str = "picture") -> Action:
    """A model's call as an action. A point or a mark is taken whatever it was told to write. Raises ActionError."""
    if call.name not in ACTIONS:
        raise ActionError(f"there is no action {call.name!r}; the actions are {', '.join(ACTIONS)}")
    _, fields, free = ACTIONS[call.name]
    given: dict[str, Any] = json.loads(call.arguments)
    if "point" in given and "mark" in given:
        raise ActionError(f"{call.name} takes a point or a mark, not both")
    named = {"point" if name == "mark" else name for name in given}
    unknown = sorted(named - set(fields))
    missing = sorted(set(fields) - named - set(free))
    if unknown or missing:
        ways = " or ".join(map(repr, POINTING[observe] if missing[:1] == ["point"] else missing[:1]))
        problem = f"does not take {unknown[0]!r}" if unknown else f"needs {ways}"
        raise ActionError(f"{call.name} {problem}")
    return Action(call.name, **{name: _READERS[name](value) for name, value in given.items()})


_PAIR = re.compile(r"\s*[(\[]?\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*[)\]]?\s*")


def read_point(value: Any) -> Point:
    """A point as "(x, y)", as a bare tuple or as a list (facts, 8.2). Raises ActionError."""
    if isinstance(value, str) and (match := _PAIR.fullmatch(value)):
        value = [float(match[1]), float(match[2])]
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(map(_is_number, value)):
        raise ActionError(f'a point is written "(x, y)", not {value!r}')
    x, y = (round(number) for number in value)
    if not (0 <= x <= 1000 and 0 <= y <= 1000):
        raise ActionError(f"the point ({x}, {y}) is outside the screen; both numbers go from 0 to 1000")
    return x, y


def pixels(point: Point, size: tuple[int, int]) -> tuple[int, int]:
    """Where a point lies on a screen of this width and height."""
    return tuple(min(side - 1, round(part / 1000 * side)) for part, side in zip(point, size, strict=True))  # type: ignore[return-value]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT:
        raise ActionError(f"the text to type must have 1 to {LONGEST_TEXT} characters")
    return value


def _mark(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z]{1,2}", value.strip()):
        raise ActionError(f"a mark is one or two letters, not {value!r}")
    return value.strip()


def _direction(value: Any) -> str:
    if value not in DIRECTIONS:
        raise ActionError(f"a direction is one of {', '.join(DIRECTIONS)}, not {value!r}")
    return str(value)


def _key(value: Any) -> str:
    if value not in KEYS:
        raise ActionError(f"a key is one of {', '.join(KEYS)}, not {value!r}")
    return str(value)


def _seconds(value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= LONGEST_WAIT:
        raise ActionError(f"a wait takes 0 to {LONGEST_WAIT:g} seconds, not {value!r}")
    return float(value)


_READERS: dict[str, Any] = {
    "point": read_point,
    "mark": _mark,
    "text": _text,
    "direction": _direction,
    "key": _key,
    "seconds": _seconds,
}
