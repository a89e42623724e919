"""Exact-match accuracy of a model's answers about pictures, by skill, with intervals."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from PIL import Image as Pillow

from clearsight.inputs import SamplingParams
from clearsight.messages import Image, Message, Text
from clearsight.vlm import VLM


class Labelled(Protocol):
    """A question about a picture with the one right answer."""

    @property
    def picture(self) -> Pillow.Image: ...
    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def skill(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Score:
    """Answers that equal the label exactly. interval: 95% Wilson score interval of the accuracy."""

    samples: int
    accuracy: float
    interval: tuple[float, float]


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of `right` out of `total` (95% for z = 1.96)."""
    share = right / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def answer(vlm: VLM, picture: Pillow.Image, question: str) -> str:
    """The model's greedy answer about one picture."""
    message = Message("user", (Image(picture), Text(question)))
    return vlm.chat([message], SamplingParams(max_tokens=96)).text


def score(pairs: Iterable[tuple[str, str]]) -> Score:
    """Of (answer, label) pairs."""
    hits = [given == wanted for given, wanted in pairs]
    interval = wilson(sum(hits), len(hits))
    return Score(len(hits), round(sum(hits) / len(hits), 4), (round(interval[0], 4), round(interval[1], 4)))


def evaluate(vlm: VLM, samples: Sequence[Labelled]) -> dict[str, Any]:
    """Accuracy by skill, and with each picture swapped for another's of the same skill.

    The swapped figure shows how far a model gets without looking.
    """
    given = [answer(vlm, sample.picture, sample.question) for sample in samples]
    skills = sorted({sample.skill for sample in samples})
    return {
        "by_skill": {skill: asdict(score(_pairs(samples, given, skill))) for skill in skills},
        "with_another_picture": asdict(score(_swapped(vlm, samples, max(1, len(samples) // 4)))),
    }


def _pairs(samples: Sequence[Labelled], given: Sequence[str], skill: str) -> list[tuple[str, str]]:
    return [(text, sample.answer) for sample, text in zip(samples, given, strict=True) if sample.skill == skill]


def _swapped(vlm: VLM, samples: Sequence[Labelled], count: int) -> list[tuple[str, str]]:
    rng = random.Random(0)
    chosen = rng.sample(samples, count)
    others = [rng.choice([other for other in samples if other.skill == sample.skill]) for sample in chosen]
    return [
        (answer(vlm, other.picture, sample.question), sample.answer)
        for sample, other in zip(chosen, others, strict=True)
        if other.answer != sample.answer
    ]


def markdown_table(result: dict[str, Any]) -> str:
    """The result of `evaluate` as the table that the README shows."""
    rows = ["| skill | exactly right | 95% interval | samples |", "|---|---|---|---|"]
    named = [*result["by_skill"].items(), ("(each picture swapped for another)", result["with_another_picture"])]
    for skill, values in named:
        low, high = values["interval"]
        rows.append(f"| {skill} | {values['accuracy']:.1%} | {low:.1%} to {high:.1%} | {values['samples']} |")
    return "\n".join(rows)
