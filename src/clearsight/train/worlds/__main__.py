"""What the worlds need and how fast they are: `python -m clearsight.train.worlds`.

--screens N renders the app screens that the world "screens" asks about; --speed S draws every world for S seconds on
one core and prints samples a second, one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import get_args

from . import WORLDS, draw
from .browser import render, screens_folder
from .sample import Split


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m clearsight.train.worlds", description=__doc__)
    parser.add_argument("--screens", type=int, metavar="N", help="screens for training; the test gets a tenth of them")
    parser.add_argument("--folder", type=Path, default=screens_folder(), help="where rendered screens are kept")
    parser.add_argument("--speed", type=float, metavar="S", help="seconds of drawing for each world")
    arguments = parser.parse_args()
    try:
        if arguments.screens is not None:
            for split in get_args(Split):
                render(split, arguments.screens if split == "train" else -(-arguments.screens // 10), arguments.folder)
        if arguments.speed is not None:
            print(json.dumps({world: samples_per_second(world, arguments.speed) for world in WORLDS}))
    except (FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def samples_per_second(world: str, seconds: float) -> float:
    """How many samples of `world` this process draws in a second, fonts already open."""
    for seed in range(20):
        draw(world, seed, "train")
    begin = time.process_time()
    for count in itertools.count(1):
        draw(world, count, "train")
        passed = time.process_time() - begin
        if passed >= seconds:
            return round(count / passed, 1)
    raise AssertionError("the count has no end")


if __name__ == "__main__":
    sys.exit(main())
