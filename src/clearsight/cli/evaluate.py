"""`clearsight eval`: held-out accuracy on the drawn worlds, as a table, as JSON and as a page with examples."""

from __future__ import annotations

import argparse
from pathlib import Path

from clearsight.cli.commands import load
from clearsight.cli.options import UsageError, add_weights


def add_eval(parser: argparse.ArgumentParser) -> None:
    add_weights(parser)
    parser.add_argument("--count", type=int, default=200, metavar="N", help="samples per skill at most (default: 200)")
    parser.add_argument("--worlds", metavar="A,B", help="which worlds, with commas between (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures here as JSON")
    parser.add_argument("--report", type=Path, metavar="FILE",
                        help="write a page here, with example pictures in images/ beside it")  # fmt: skip


def evaluate(arguments: argparse.Namespace) -> int:
    from clearsight.train.examine import WORLDS, examine, held_out

    worlds = tuple(arguments.worlds.split(",")) if arguments.worlds else WORLDS
    unknown = next((world for world in worlds if world not in WORLDS), None)
    if unknown is not None:
        raise UsageError(f"there is no world {unknown!r}; the worlds are {', '.join(WORLDS)}")
    if arguments.count < 1:
        raise UsageError(f"--count is {arguments.count}; it must be at least 1")
    for path in (arguments.out, arguments.report):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{path} cannot be written: there is no folder {path.parent}")
    vlm = load(arguments)
    try:
        samples = held_out(arguments.count, worlds)
    except (ImportError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    print(examine(vlm, samples, arguments.out, arguments.report))
    return 0
