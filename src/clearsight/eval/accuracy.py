"""Accuracy of a model's answers by skill, with intervals, and what is left of it when the picture is taken away."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from PIL import Image as Pillow

from clearsight.answer import Reply
from clearsight.eval.labelled import Labelled
from clearsight.eval.metrics import judge
from clearsight.inputs import SamplingParams
from clearsight.messages import Image, Message, Part, Video
from clearsight.vlm import VLM

# A control takes as long as the real thing and its figure need not be as sharp.
CONTROL_SHARE = 4
MAX_TOKENS = 160
_AT_ONCE = 16
_GREY = (127, 127, 127)


@dataclass(frozen=True, slots=True)
class Score:
    """Mean of scores from 0 to 1. interval: 95%, never too narrow: scores between 0 and 1 vary less than hits do."""

    samples: int
    accuracy: float
    interval: tuple[float, float]


def wilson(right: float, total: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of `right` out of `total` (95% for z = 1.96)."""
    share = right / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def score(values: Sequence[float]) -> Score:
    """Of scores from 0 to 1, at least one."""
    low, high = wilson(sum(values), len(values))
    return Score(len(values), round(sum(values) / len(values), 4), (round(low, 4), round(high, 4)))


def replies(vlm: VLM, samples: Sequence[Labelled]) -> Iterator[Reply]:
    """The model's greedy answers in order, several made at once."""
    params = SamplingParams(max_tokens=MAX_TOKENS)
    for start in range(0, len(samples), _AT_ONCE):
        turns = [vlm.start(s.prompt, params, tools=s.tools) for s in samples[start : start + _AT_ONCE]]
        numbers = {vlm.engine.submit(turn.request): turn for turn in turns}
        while vlm.engine.has_work:
            for number, event in vlm.engine.step():
                numbers[number].reader.push(event)
        for turn in turns:
            turn.reader.finish()
            yield turn.reader.reply


def evaluate(vlm: VLM, samples: Sequence[Labelled]) -> dict[str, Any]:
    """Accuracy by skill; and, on one sample in four, with each picture swapped for another's of its skill, or blank.

    The controls show how far a model gets without looking. `changed`: share of answers that are not what they were.
    """
    given = list(replies(vlm, samples))
    scores = [judge(reply, sample) for reply, sample in zip(given, samples, strict=True)]
    by_skill = {}
    for skill in sorted({sample.skill for sample in samples}):
        values = [value for value, sample in zip(scores, samples, strict=True) if sample.skill == skill]
        metric = next(sample.metric for sample in samples if sample.skill == skill)
        by_skill[skill] = {"metric": metric, **asdict(score(values))}
    controls = {"with_another_picture": _swapped(samples), "with_blank_pictures": _blank}
    return {"by_skill": by_skill, **{name: _control(vlm, samples, given, change) for name, change in controls.items()}}


_Change = Callable[[Labelled], tuple[Message, ...] | None]
"""The prompt with other pictures, or None for a sample that the control cannot use."""


def _control(vlm: VLM, samples: Sequence[Labelled], given: Sequence[Reply], change: _Change) -> dict[str, Any]:
    chosen = random.Random(0).sample(range(len(samples)), max(1, len(samples) // CONTROL_SHARE))
    changed = {index: prompt for index in chosen if (prompt := change(samples[index])) is not None}
    if not changed:
        return {}
    asked = [_Changed(samples[index], prompt) for index, prompt in changed.items()]
    answers = list(replies(vlm, asked))
    values = [judge(reply, sample) for reply, sample in zip(answers, asked, strict=True)]
    differ = [_content(reply) != _content(given[index]) for reply, index in zip(answers, changed, strict=True)]
    return {**asdict(score(values)), "changed": round(sum(differ) / len(differ), 4)}


class _Changed:
    """A sample whose prompt is another; everything else is as it was."""

    def __init__(self, sample: Labelled, prompt: tuple[Message, ...]) -> None:
        self.prompt = prompt
        self.label, self.tools, self.skill = sample.label, sample.tools, sample.skill
        self.metric, self.region = sample.metric, sample.region


def _swapped(samples: Sequence[Labelled]) -> _Change:
    rng = random.Random(1)

    def change(sample: Labelled) -> tuple[Message, ...] | None:
        """With the pictures of another sample that has as many and another answer."""
        shape = [type(part) for part in _media(sample.prompt)]
        others = [
            other
            for other in samples
            if other.skill == sample.skill
            and other.label != sample.label
            and [type(part) for part in _media(other.prompt)] == shape
        ]
        if not shape or not others:
            return None
        pictures = iter(_media(rng.choice(others).prompt))
        return _with_media(sample.prompt, lambda _: next(pictures))

    return change


def _blank(sample: Labelled) -> tuple[Message, ...] | None:
    return _with_media(sample.prompt, _greyed) if _media(sample.prompt) else None


def _greyed(part: Image | Video) -> Image | Video:
    if isinstance(part, Image):
        return replace(part, source=Pillow.new("RGB", part.source.size, _GREY))
    return replace(part, source=tuple(Pillow.new("RGB", frame.size, _GREY) for frame in part.source))


def _media(messages: tuple[Message, ...]) -> list[Image | Video]:
    return [part for message in messages for part in message.parts if isinstance(part, (Image, Video))]


def _with_media(messages: tuple[Message, ...], change: Callable[[Image | Video], Image | Video]) -> tuple[Message, ...]:
    def changed(part: Part) -> Part:
        return change(part) if isinstance(part, (Image, Video)) else part

    return tuple(replace(message, parts=tuple(map(changed, message.parts))) for message in messages)


def _content(reply: Reply) -> tuple[object, ...]:
    return reply.text, [(call.name, call.arguments) for call in reply.tool_calls], reply.annotations
