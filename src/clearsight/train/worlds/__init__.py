"""Seeded, labelled samples drawn on the fly, nearly all of pictures, to train and to examine a small model."""

from __future__ import annotations

import random
from collections.abc import Callable

from .boxes import draw_boxes
from .calls import draw_calls
from .charts import draw_charts
from .clips import draw_clips
from .documents import draw_documents
from .live import draw_live
from .pairs import draw_pairs
from .sample import Sample, Split
from .screens import draw_screens
from .scripts import draw_scripts
from .shapes import draw_shapes
from .signs import draw_signs
from .strips import draw_strips
from .sums import draw_sums
from .text import draw_line, draw_page, draw_word
from .told import draw_told

__all__ = ["WORLDS", "Sample", "Split", "draw"]

WORLDS: dict[str, Callable[..., Sample]] = {
    "word": draw_word,
    "line": draw_line,
    "page": draw_page,
    "shapes": draw_shapes,
    "documents": draw_documents,
    "boxes": draw_boxes,
    "charts": draw_charts,
    "signs": draw_signs,
    "calls": draw_calls,
    "pairs": draw_pairs,
    "clips": draw_clips,
    "sums": draw_sums,
    "strips": draw_strips,
    "scripts": draw_scripts,
    "screens": draw_screens,
    "live": draw_live,
    "told": draw_told,
}

# Where one picture can be asked several questions, which is worth more of a picture that was paid for.
TALKATIVE = frozenset({"page", "shapes", "documents", "boxes", "charts", "calls", "clips", "screens"})


def draw(world: str, seed: int, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """Sample number `seed` of `world` in `split`: the same arguments always give the same sample.

    `level` in 0..1 makes samples longer and fuller. turns: up to so many questions about one picture, in worlds that
    have more than one. Raises ValueError for an unknown world, split or level.
    """
    if world not in WORLDS:
        raise ValueError(f"there is no world {world!r}; the worlds are {', '.join(WORLDS)}")
    if split not in ("train", "test"):
        raise ValueError(f"the split must be 'train' or 'test', not {split!r}")
    if not 0.0 <= level <= 1.0:
        raise ValueError(f"the level must be from 0 to 1, not {level}")
    options = {"turns": turns} if turns > 1 and world in TALKATIVE else {}
    return WORLDS[world](random.Random(f"{world} {split} {seed}"), split=split, level=level, **options)
