"""The value every world draws, and the rule that keeps test texts out of training."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

from PIL import Image

Split = Literal["train", "test"]

# Sides are multiples of one merged token (facts, 3.2), so the processor's resize is the identity.
CELL = 28


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture: an RGB `picture` whose sides are multiples of 28, a question, its answer and the skill."""

    picture: Image.Image
    question: str
    answer: str
    skill: str


def belongs(text: str, split: Split) -> bool:
    """Whether `text` may appear in `split`: one text in ten, chosen by a hash that ignores case, is test only.

    Texts of one or two characters are too few to hold any out and belong to both splits.
    """
    held_out = zlib.crc32(text.lower().encode()) % 10 == 0
    return len(text) < 3 or held_out == (split == "test")
