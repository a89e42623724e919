"""Held-out accuracy on the drawn worlds: `clearsight eval` or `python -m clearsight.train.examine`.

--report writes docs/nano.md with its example pictures; --out writes the figures as JSON (the card beside the weights).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
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
    ("shapes", 1.0, 7),
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
            for index in range(count * share):
                sample = _named(draw(world, first_seed + index, "test", level), level)
                kept[sample.skill] += 1
                if kept[sample.skill] <= count:
                    samples.append(sample)
    return samples


def _named(sample: Sample, level: float) -> Sample:
    return replace(sample, skill=SHORT_WORD) if sample.skill == "word" and level == SHORT_LEVEL else sample


def add_examine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano", help="a short name or a checkpoint folder")
    parser.add_argument("--count", type=int, default=200, help="samples per skill, roughly (default: %(default)s)")
    parser.add_argument("--worlds", default=",".join(WORLDS), help="which, with commas between (default: all)")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    parser.add_argument("--report", type=Path, help="write a page here, with example pictures in images/ beside it")


def examine(arguments: argparse.Namespace) -> int:
    """Measure and print the table. Raises ValueError for an unknown world or a count below 1."""
    worlds = tuple(arguments.worlds.split(","))
    unknown = next((world for world in worlds if world not in WORLDS), None)
    if unknown is not None:
        raise ValueError(f"there is no world {unknown!r}; the worlds are {', '.join(WORLDS)}")
    if arguments.count < 1:
        raise ValueError(f"count is {arguments.count}; it must be at least 1")
    samples = held_out(arguments.count, worlds)
    vlm = VLM.load(arguments.model)
    result = evaluate(vlm, samples)
    print(markdown_table(result))
    if arguments.out:
        write_json(arguments.out, result)
    if arguments.report:
        write_report(arguments.report, vlm, samples, result)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_examine(parser)
    try:
        return examine(parser.parse_args())
    except (ValueError, ImportError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
