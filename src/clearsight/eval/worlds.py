"""Held-out accuracy on drawn worlds: `python -m clearsight.eval.worlds` writes nano's card (needs the train extra)."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from clearsight.inputs import SamplingParams
from clearsight.messages import Image, Message, Text
from clearsight.model.weights import write_json
from clearsight.train.worlds import Sample, draw
from clearsight.vlm import VLM


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
    return (centre - spread) / scale, (centre + spread) / scale


def answer(vlm: VLM, picture: Pillow.Image, question: str) -> str:
    """The model's greedy answer about one picture."""
    message = Message("user", (Image(picture), Text(question)))
    return vlm.chat([message], SamplingParams(max_tokens=96)).text


def score(pairs: Iterable[tuple[str, str]]) -> Score:
    """Of (answer, label) pairs."""
    hits = [given == wanted for given, wanted in pairs]
    interval = wilson(sum(hits), len(hits))
    return Score(len(hits), round(sum(hits) / len(hits), 4), (round(interval[0], 4), round(interval[1], 4)))


def held_out(world: str, count: int, first_seed: int) -> list[Sample]:
    """Samples of the test split: words, wordings, fonts and seeds that training never sees."""
    return [draw(world, first_seed + index, "test") for index in range(count)]


def evaluate(vlm: VLM, count: int, first_seed: int = 1_000_000) -> dict[str, Any]:
    """Accuracy by skill over `count` held-out samples of each world, and with each picture swapped for another's.

    The swapped figure shows how far a model gets without looking.
    """
    samples = [
        sample
        for world, share in (("word", 1), ("line", 1), ("page", 1), ("shapes", 3))
        for sample in held_out(world, count * share, first_seed)
    ]
    given = [answer(vlm, sample.picture, sample.question) for sample in samples]
    skills = sorted({sample.skill for sample in samples})
    swapped = _swapped(vlm, samples, max(1, len(samples) // 4))
    return {
        "by_skill": {skill: asdict(score(_pairs(samples, given, skill))) for skill in skills},
        "with_another_picture": asdict(score(swapped)),
    }


def _pairs(samples: Sequence[Sample], given: Sequence[str], skill: str) -> list[tuple[str, str]]:
    return [(text, sample.answer) for sample, text in zip(samples, given, strict=True) if sample.skill == skill]


def _swapped(vlm: VLM, samples: Sequence[Sample], count: int) -> list[tuple[str, str]]:
    rng = random.Random(0)
    chosen = rng.sample(samples, count)
    others = [rng.choice([other for other in samples if other.skill == sample.skill]) for sample in chosen]
    return [
        (answer(vlm, other.picture, sample.question), sample.answer)
        for sample, other in zip(chosen, others, strict=True)
        if other.answer != sample.answer
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--count", type=int, default=400, help="samples of each world, three times as many of shapes")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    arguments = parser.parse_args()
    result = evaluate(VLM.load(arguments.model), arguments.count)
    for skill, values in [*result["by_skill"].items(), ("(another picture)", result["with_another_picture"])]:
        low, high = values["interval"]
        print(f"{skill:18} {values['accuracy']:7.1%}  [{low:.1%}, {high:.1%}]  of {values['samples']}")
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
