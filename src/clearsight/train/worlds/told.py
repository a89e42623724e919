"""The world "told": receipts and lists of numbers in words, without a picture.

What to conclude from prices is learned apart from reading them.
"""

from __future__ import annotations

import random

from .documents import purchase
from .names import pick
from .questions import phrase
from .sample import Sample, Split, in_words, outdone
from .sheet import Field

SKILL = "list in words"

_SEPARATORS: dict[Split, tuple[str, ...]] = {"train": (" ", ": ", " - ", ", "), "test": (" ", ": ", " = ")}


def draw_told(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """Two to six names with their numbers and which of them is first by its number, or what stands at one; `level`
    0..1 grows the list."""
    if split == "train":
        level *= rng.random()
    return (_receipt if rng.random() < 0.6 else _numbers)(rng, split, level)


def _receipt(rng: random.Random, split: Split, level: float) -> Sample:
    while not (bought := purchase(rng, split, max(level, 0.25))).ranks:  # two goods at least
        pass
    head = [field.value for field in bought.head if rng.random() < 0.25]
    section, slots, answer, _ = rng.choice(bought.ranks if rng.random() < 0.8 else bought.prices)
    lines = [*head, *_lines(rng, split, [*bought.goods, *bought.foot[: rng.randint(1, 3)]])]
    return _about(rng, lines, phrase(rng, section, split, **slots), answer)


def _numbers(rng: random.Random, split: Split, level: float) -> Sample:
    count = rng.randint(2, 2 + round(4 * level))
    labels = pick(rng, rng.choice(("series", "first", "month")), split, count)
    values = rng.sample(range(1, 10 ** rng.randint(2, 3)), count)
    fields = [Field(label, str(value)) for label, value in zip(labels, values, strict=True)]
    if rng.random() < 0.8:
        section, best = rng.choice((("chart highest", max), ("chart lowest", min)))
        question, answer = phrase(rng, section, split), outdone([(*field, int(field.value)) for field in fields], best)
    else:
        name, answer = rng.choice(fields)
        question = phrase(rng, "chart value", split, name=name)
    return _about(rng, _lines(rng, split, fields), question, answer)


def _lines(rng: random.Random, split: Split, fields: list[Field]) -> list[str]:
    separator, capital = rng.choice(_SEPARATORS[split]), rng.random() < 0.5
    return [f"{name.capitalize() if capital else name}{separator}{value}" for name, value in fields]


def _about(rng: random.Random, lines: list[str], question: str, answer: str) -> Sample:
    """The list before or after the question."""
    parts = ["\n".join(lines), question]
    if rng.random() < 0.4:
        parts.reverse()
    return in_words("\n".join(parts), answer, SKILL, "result-anls")
