"""Held-out accuracy on the drawn worlds: what `clearsight eval` measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clearsight.eval import evaluate, markdown_table, write_report
from clearsight.model.weights import write_json
from clearsight.train.worlds import Sample, draw
from clearsight.vlm import VLM

# At this level words have up to five characters and three in five stand plain, black on white.
SHORT_LEVEL = 0.4
SHORT_WORD = "word of up to five characters, mostly plain"

# World, level and share of the samples: a world that asks about several skills needs more to have enough of each.
PARTS = (
    ("word", SHORT_LEVEL, 1),
    ("word", 1.0, 1),
    ("line", 1.0, 1),
    ("page", 1.0, 1),
    ("shapes", 1.0, 8),
    ("documents", 1.0, 8),
    ("boxes", 1.0, 6),
    ("charts", 1.0, 3),
    ("signs", 1.0, 2),
    ("calls", 1.0, 4),
    ("pairs", 1.0, 7),
    ("clips", 1.0, 6),
    ("sums", 1.0, 6),
    ("strips", 1.0, 7),
    ("scripts", 1.0, 9),
    ("screens", 1.0, 3),
    ("live", 1.0, 1),
    ("told", 1.0, 1),
)
WORLDS = tuple(dict.fromkeys(world for world, *_ in PARTS))
FIRST_SEED = 1_000_000


def held_out(count: int, worlds: tuple[str, ...] = WORLDS, first_seed: int = FIRST_SEED) -> list[Sample]:
    """About `count` samples per skill, never more: words, wordings, fonts and seeds that training never sees.

    Raises ImportError or FileNotFoundError where a world's fonts or rendered screens are missing.
    """
    samples: list[Sample] = []
    for world, level, share in PARTS:
        if world in worlds:
            kept: Counter[str] = Counter()
            # Twice as many as are kept, so that skills that a world asks for less often have enough too.
            for index in range(2 * count * share):
                sample = _named(draw(world, first_seed + index, "test", level), level)
                kept[sample.skill] += 1
                if kept[sample.skill] <= count:
                    samples.append(sample)
    return samples


def _named(sample: Sample, level: float) -> Sample:
    return replace(sample, skill=SHORT_WORD) if sample.skill == "word" and level == SHORT_LEVEL else sample


def examine(vlm: VLM, samples: Sequence[Sample], out: Path | None = None, report: Path | None = None) -> str:
    """The table of a model on `samples`; out: also its figures as JSON; report: also a page with examples."""
    result = evaluate(vlm, samples)
    if out:
        write_json(out, result)
    if report:
        write_report(report, vlm, samples, result)
    return markdown_table(result)
