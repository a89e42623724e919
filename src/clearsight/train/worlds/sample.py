"""The value every world draws, and the rule that keeps test texts out of training."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL import Image as Pillow

from clearsight.messages import Box, Image, Message, Part, Text, Tool

Split = Literal["train", "test"]

# How an answer is judged; the rules are in clearsight.eval.metrics.
Metric = Literal[
    "exact", "result-exact", "anls", "result-anls", "result-relaxed", "iou", "point-in-box", "tool-call", "characters"
]  # fmt: skip

# Sides are multiples of one merged token (facts, 3.2), so the processor's resize is the identity.
CELL = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A labelled conversation about drawn pictures (RGB, sides multiples of 28), or in words alone.

    messages: ends with an assistant turn; every assistant turn is right. tools: what may be called in it.
    judged: index of the assistant turn that a model's answer is compared with, by `metric`.
    region: with the metric "point-in-box", where a point is right.
    """

    messages: tuple[Message, ...]
    skill: str
    metric: Metric = "exact"
    tools: tuple[Tool, ...] = ()
    judged: int = -1
    region: Box | None = None

    def __post_init__(self) -> None:
        assert self.messages[-1].role == self.label.role == "assistant"
        assert (self.region is None) == (self.metric != "point-in-box")

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What comes before the judged turn."""
        return self.messages[: self.judged]

    @property
    def label(self) -> Message:
        """The judged turn as it should be."""
        return self.messages[self.judged]

    @property
    def picture(self) -> Pillow.Image:
        """The only picture of a conversation that has one."""
        (picture,) = (part.source for message in self.messages for part in message.parts if isinstance(part, Image))
        return picture

    @property
    def question(self) -> str:
        """The words of the last user turn before the judged one."""
        return _words(next(message for message in reversed(self.prompt) if message.role == "user"))

    @property
    def answer(self) -> str:
        """The words of the judged turn, without boxes and calls."""
        return _words(self.label)


Said = str | tuple[Part, ...]
"""Words, or words with boxes and the like between them."""


def about(picture: Pillow.Image, question: str, answer: Said, skill: str, metric: Metric = "exact") -> Sample:
    """One question about one picture with its answer."""
    return talk(Image(picture), Asked(question, answer, skill, metric))


def in_words(question: str, answer: str, skill: str, metric: Metric = "exact") -> Sample:
    """A question in words alone with its answer."""
    messages = Message("user", (Text(question),)), Message("assistant", (Text(answer),))
    return Sample(messages=messages, skill=skill, metric=metric)


class Asked(NamedTuple):
    """A question, its answer, what it examines and how it is judged.

    topic: what it asks about in whatever words, if the same answer may come again about something else. late: the more
    it tells that others could be answered from without a look, the later it comes. region: as for Sample.
    """

    question: Said
    answer: Said
    skill: str
    metric: Metric = "exact"
    topic: str = ""
    late: int = 0
    region: Box | None = None


def talk(shown: Part, first: Asked, more: Iterable[Asked] = (), turns: int = 1) -> Sample:
    """Up to `turns` questions about the same picture or video; `first` is judged, wherever it comes.

    The others are taken from `more` but for those that were answered before: they would only be repeated. Where there
    are few answers each may come again about another topic, or the last of several could be told without a look.
    """
    heard = {_heard(first): first}
    for asked in more:
        if len(heard) >= turns:
            break
        heard.setdefault(_heard(asked), asked)
    messages: list[Message] = []
    ordered = sorted(heard.values(), key=lambda asked: asked.late)
    for question, answer, *_ in ordered:
        opening = () if messages else (shown,)
        messages += [Message("user", (*opening, *_parts(question))), Message("assistant", _parts(answer))]
    judged = 1 + 2 * ordered.index(first)
    return Sample(messages=tuple(messages), skill=first.skill, metric=first.metric, judged=judged, region=first.region)


def worked(steps: Iterable[str], result: str) -> str:
    """An answer that shows what it comes from before it says it: a small model cannot do all of it in one step."""
    return f"{', '.join(steps)}: {result}"


def outdone(
    values: Iterable[tuple[str, str, float]], best: Callable[[float, float], float], end: str | None = None
) -> str:
    """Whose value is `best`, found by comparing each with the best one before it.

    `Ann 12, Ben 30 > Ann 12, Cem 7 < Ben 30: Ben`: the best so far is named in every step, as the end is found where
    it was named last.

    values: of each its name, the value as it is printed and as a number, all of which differ. best: max or min. end:
    what is printed below the last of them.
    """
    (leader, record, most), *others = values
    steps = [f"{leader} {record}"]
    for name, shown, value in others:
        steps.append(f"{name} {shown} {'<' if value < most else '>'} {leader} {record}")
        if best(value, most) == value:
            leader, record, most = name, shown, value
    return worked([*steps, *([end] if end else [])], leader)


def _heard(asked: Asked) -> tuple[str, Said]:
    return asked.skill, asked.topic or asked.answer


def _parts(said: Said) -> tuple[Part, ...]:
    return (Text(said),) if isinstance(said, str) else said


def belongs(text: str, split: Split) -> bool:
    """Whether `text` may appear in `split`: one text in ten, chosen by a hash that ignores case, is test only.

    Texts of one or two characters are too few to hold any out and belong to both splits.
    """
    held_out = zlib.crc32(text.lower().encode()) % 10 == 0
    return len(text) < 3 or held_out == (split == "test")


def _words(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, Text))
