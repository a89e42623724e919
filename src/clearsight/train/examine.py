"""Held-out accuracy on the drawn worlds: `python -m clearsight.train.examine --out card.json`."""

from __future__ import annotations

import argparse
from pathlib import Path

from clearsight.eval import evaluate, markdown_table
from clearsight.model.weights import write_json
from clearsight.train.worlds import Sample, draw
from clearsight.vlm import VLM

# Scenes ask about seven skills, the other worlds about one each.
SHARES = {"word": 1, "line": 1, "page": 1, "shapes": 7}


def held_out(count: int, first_seed: int = 1_000_000) -> list[Sample]:
    """`count` samples per skill, roughly: words, wordings, fonts and seeds that training never sees."""
    return [
        draw(world, first_seed + index, "test") for world, share in SHARES.items() for index in range(count * share)
    ]


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
