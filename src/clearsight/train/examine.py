"""Held-out accuracy on the drawn worlds: `python -m clearsight.train.examine --out card.json`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from clearsight.eval import evaluate, markdown_table
from clearsight.model.weights import write_json
from clearsight.train.worlds import Sample, draw
from clearsight.vlm import VLM

# At this level words have up to five characters and three in five stand plain, black on white.
SHORT_LEVEL = 0.4
SHORT_WORD = "word of up to five characters, mostly plain"

# World, level and share of the samples: scenes ask about seven skills, the other worlds about one each.
PARTS = (("word", SHORT_LEVEL, 1), ("word", 1.0, 1), ("line", 1.0, 1), ("page", 1.0, 1), ("shapes", 1.0, 7))


def held_out(count: int, first_seed: int = 1_000_000) -> list[Sample]:
    """`count` samples per skill, roughly: words, wordings, fonts and seeds that training never sees."""
    return [
        _named(draw(world, first_seed + index, "test", level), level)
        for world, level, share in PARTS
        for index in range(count * share)
    ]


def _named(sample: Sample, level: float) -> Sample:
    return replace(sample, skill=SHORT_WORD) if sample.skill == "word" and level == SHORT_LEVEL else sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano", help="a short name or a checkpoint folder")
    parser.add_argument("--count", type=int, default=400, help="samples per skill, roughly")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    arguments = parser.parse_args()
    result = evaluate(VLM.load(arguments.model), held_out(arguments.count))
    print(markdown_table(result))
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
