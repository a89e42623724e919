"""How right an answer is, from 0 to 1, by the rules of the published benchmarks (facts, 10.8).

Every metric takes the model's reply and the labelled sample. Boxes and calls are read as every user reads them, from
the reply's annotations and tool calls, not from its text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from clearsight.answer import Reply
from clearsight.eval.labelled import Labelled
from clearsight.messages import Box, Message, Part, Text, ToolCall

_RELAXED_TOLERANCE = 0.05
_MIN_ANLS = 0.5
_MIN_IOU = 0.5

Corners = tuple[float, float, float, float]
Kind = TypeVar("Kind", bound=Part)


def exact(given: str, wanted: str) -> float:
    """1 if nothing differs."""
    return float(given == wanted)


def anls(given: str, wanted: str) -> float:
    """Normalised Levenshtein similarity, blind to case and runs of blanks; below a half it is 0 (DocVQA)."""
    given, wanted = (" ".join(text.lower().split()) for text in (given, wanted))
    similarity = 1 - edit_distance(given, wanted) / max(1, len(given), len(wanted))
    return similarity if similarity >= _MIN_ANLS else 0.0


def result(text: str) -> str:
    """What an answer that shows its working comes to: what follows its last ": " or "= ", all of it if none is.

    A colon after a blank divides: "9 : 3" alone does not come to 3.
    """
    return re.split("(?<! ): |= ", text)[-1]


def relaxed(given: str, wanted: str) -> float:
    """A number within 5% of the wanted one; other texts must be equal but for case (ChartQA)."""
    ours, gold = _number(given), _number(wanted)
    if ours is not None and gold:  # a gold of zero has no relative distance
        return float(abs(ours - gold) <= _RELAXED_TOLERANCE * abs(gold))
    return float(given.strip().lower() == wanted.strip().lower())


def characters(given: str, wanted: str) -> float:
    """Share of the wanted characters that are right: 1 - edit distance over their number, not below 0."""
    return max(0.0, 1 - edit_distance(given, wanted) / max(1, len(wanted)))


def overlap(one: Corners, two: Corners) -> float:
    """Intersection over union of two boxes (left, top, right, bottom); 0 if either has no area."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(two) - shared)


def boxes_match(given: list[Corners], wanted: list[Corners]) -> float:
    """1 if there are as many boxes as wanted and each overlaps one of its own by at least half (RefCOCO for one)."""
    left = list(wanted)
    for box in given:
        best = max(left, key=lambda other: overlap(box, other), default=None)
        if best is None or overlap(box, best) < _MIN_IOU:
            return 0.0
        left.remove(best)
    return float(not left)


def calls_match(given: list[ToolCall], wanted: list[ToolCall]) -> float:
    """1 if the same functions are called in the same order with equal arguments (FnCall, exact match)."""
    return float([_call(call) for call in given] == [_call(call) for call in wanted])


def edit_distance(one: str, two: str) -> int:
    """The fewest insertions, deletions and replacements of characters that make `two` of `one`."""
    row = list(range(len(two) + 1))
    for i, left in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(two, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


# --- metrics of a whole reply ------------------------------------------------------------------------------


def judge(reply: Reply, sample: Labelled) -> float:
    """How right `reply` is by the sample's own metric."""
    return METRICS[sample.metric](reply, sample)


def _of_texts(rule: Callable[[str, str], float]) -> Callable[[Reply, Labelled], float]:
    return lambda reply, sample: rule(reply.text, _text(sample.label))


def _of_results(rule: Callable[[str, str], float]) -> Callable[[Reply, Labelled], float]:
    return _of_texts(lambda given, wanted: rule(result(given), result(wanted)))


def _iou(reply: Reply, sample: Labelled) -> float:
    given = [_corners(found.relative) for found in reply.annotations if found.kind == "box"]
    wanted = [_corners((box.x1, box.y1, box.x2, box.y2)) for box in _parts(sample.label, Box)]
    # "There is none" is a right answer only where nothing was to be found.
    return boxes_match(given, wanted) if wanted else float(not given and reply.text == _text(sample.label))


def _point_in_box(reply: Reply, sample: Labelled) -> float:
    assert sample.region is not None
    points = [found.relative for found in reply.annotations if found.kind == "point"]
    if len(points) != 1:
        return 0.0
    (x, y), region = points[0], sample.region
    return float(region.x1 <= x <= region.x2 and region.y1 <= y <= region.y2)


def _tool_call(reply: Reply, sample: Labelled) -> float:
    return calls_match(list(reply.tool_calls), _parts(sample.label, ToolCall))


METRICS: Mapping[str, Callable[[Reply, Labelled], float]] = {
    "exact": _of_texts(exact),
    "result-exact": _of_results(exact),
    "anls": _of_texts(anls),
    "result-anls": _of_results(anls),
    "result-relaxed": _of_results(relaxed),
    "characters": _of_texts(characters),
    "iou": _iou,
    "point-in-box": _point_in_box,
    "tool-call": _tool_call,
}


def _parts(message: Message, kind: type[Kind]) -> list[Kind]:
    return [part for part in message.parts if isinstance(part, kind)]


def _text(message: Message) -> str:
    return "".join(part.text for part in _parts(message, Text))


def _call(call: ToolCall) -> tuple[str, object]:
    return call.name, json.loads(call.arguments)


def _corners(values: tuple[int, ...]) -> Corners:
    left, top, right, bottom = values
    return left, top, right, bottom


def _area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _number(text: str) -> float | None:
    """The number that `text` is, if it is one; a trailing percent sign divides by a hundred."""
    match = re.fullmatch(r"[$€£]?\s*([-+]?[\d,]*\.?\d+)\s*(%?)", text.strip())
    if match is None:
        return None
    value = float(match[1].replace(",", ""))
    return value / 100 if match[2] else value
