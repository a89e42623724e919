"""`clearsight bench`: how fast this engine is here, beside other runtimes and the machine's own limits."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clearsight.cli.options import UsageError, add_model

_MODES = {"none": "bf16", "int8": "int8", "int4": "int4"}
_MOST = 4096  # of any number that can be typed


def add_bench(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--random", action="store_true", help="true shape, random weights, no download")
    parser.add_argument("--quantize", default="int8,int4", metavar="LIST",
                        help="which of none, int8 and int4 to measure (default: int8,int4)")  # fmt: skip
    parser.add_argument("--peers", default="auto", metavar="LIST",
                        help="other runtimes: auto, none, or names; one that is not installed is left out,"
                        " which is said (default: auto)")  # fmt: skip
    parser.add_argument("--peer-python", action="append", default=[], metavar="PEER=PYTHON",
                        help="the interpreter that a peer runs in, where it is not this one")  # fmt: skip
    parser.add_argument("--sizes", default="448x448", metavar="LIST", help="pictures, as 448x448,1344x1008")
    parser.add_argument("--batches", default="1,4,8,16", metavar="LIST", help="conversations at once")
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="of each answer (default: 32)")
    parser.add_argument("--requests", type=int, default=8, metavar="N", help="of the mixed load (default: 8; 0: none)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="each value is their median (default: 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all processors")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the result")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--live", action="store_true", help="instead: a live session as its stream goes on")
    parser.add_argument("--minutes", default="1,10,60", metavar="LIST", help="of the stream, with --live")
    other.add_argument("--video", action="store_true", help="instead: reading a long 720p video")
    parser.add_argument("--seconds", type=int, default=1200, metavar="N", help="of the video (default: 1200)")
    parser.add_argument("--gop", type=int, default=30, metavar="N",
                        help="frames of the video from one that can be sought to the next (default: 30)")  # fmt: skip


def bench(args: argparse.Namespace) -> int:
    """Prints a table and then, as its last line, one JSON object."""
    if args.live:
        return _live(args)
    if args.video:
        return _video(args)
    from clearsight.bench import report
    from clearsight.bench.process import RuntimeFailed
    from clearsight.bench.run import Setup, run
    from clearsight.bench.start import measure_start

    pythons = _pythons(args.peer_python)
    setup = Setup(
        runtimes=(*_modes(args.quantize), *_peers(args.peers, pythons)),
        sizes=_sizes(args.sizes),
        batches=tuple(_number(text, "--batches", 1) for text in _listed(args.batches)),
        tokens=_between("--tokens", args.tokens, 4),
        requests=_between("--requests", args.requests, 0),
        rounds=_between("--rounds", args.rounds, 1),
        threads=_between("--threads", args.threads, 1),
        pythons=pythons,
    )
    try:
        with _folder(args.model, args.random) as folder:
            result = run(folder, setup, _say)
    except (RuntimeFailed, ValueError) as error:
        raise UsageError(str(error)) from error
    result = {"model": args.model, "random": args.random, **result}
    if args.model == "nano" and not args.random:
        result["start_to_first_token_s"] = measure_start(setup.rounds, setup.threads)
    print(report.table(result))
    if args.plot:
        try:
            report.plot(result, Path(args.plot))
        except ModuleNotFoundError as error:
            raise UsageError(f"--plot needs matplotlib, which is not installed ({error.name})") from error
    print(json.dumps(result))
    return 0


def _live(args: argparse.Namespace) -> int:
    from clearsight.bench.live import live, spreads
    from clearsight.vlm import VLM

    minutes = [_number(text, "--minutes", 1) for text in _listed(args.minutes)]
    rows, in_turns = live(VLM.load(args.model, random_weights=args.random), minutes, _say)
    flat = spreads(rows)
    for name, spread in flat.items():
        print(f"{name}: {', '.join(str(row[name]) for row in rows)}; largest over smallest {spread}")
    result = {"model": args.model, "random": args.random, "rows": rows, "spreads": flat, "old_over_young": in_turns}
    print(json.dumps(result))
    return 0


def _video(args: argparse.Namespace) -> int:
    from clearsight.bench.video import video

    result = video(_between("--seconds", args.seconds, 10), _between("--gop", args.gop, 1), _say)
    print(json.dumps(result))
    return 0


@contextlib.contextmanager
def _folder(name: str, random: bool) -> Iterator[Path]:
    """The checkpoint that every runtime loads; random weights are written to a folder that is gone afterwards."""
    from clearsight.model.hub import preset_for, resolve
    from clearsight.model.weights import random_model, save_model

    if not random:
        yield resolve(name)
        return
    import torch

    config = preset_for(name)
    with tempfile.TemporaryDirectory(prefix="clearsight-bench-") as folder:
        _say("drawing random weights")
        save_model(random_model(config, dtype=torch.bfloat16), Path(folder))
        yield Path(folder)


def _modes(text: str) -> list[str]:
    for mode in _listed(text):
        if mode not in _MODES:
            raise UsageError(f"--quantize names {mode!r}; the modes are {', '.join(_MODES)}")
    return [_MODES[mode] for mode in _listed(text)]


def _peers(text: str, pythons: Mapping[str, str]) -> list[str]:
    """The runtimes of those asked for that are installed; of each other one is said how to install it."""
    from clearsight.bench.runtimes import KINDS, PEERS

    if text == "none":
        return []
    found: list[str] = []
    for peer in PEERS if text == "auto" else map(_peer, _listed(text)):
        names = PEERS[peer]
        kind = KINDS[names[0]]
        try:
            missing = kind.missing(pythons.get(names[0], sys.executable))
        except ValueError as error:
            raise UsageError(str(error)) from error
        if missing:
            _say(f"{peer} is left out, as {' and '.join(missing)} cannot be found; to measure it, {kind.install}")
        else:
            found += names
    return found


def _peer(name: str, option: str = "--peers") -> str:
    from clearsight.bench.runtimes import PEERS

    if name not in PEERS:
        raise UsageError(f"{option} names {name!r}; the peers are {', '.join(PEERS)}")
    return name


def _pythons(pairs: Sequence[str]) -> dict[str, str]:
    """Interpreters by the runtimes that they run."""
    from clearsight.bench.runtimes import PEERS

    found: dict[str, str] = {}
    for pair in pairs:
        peer, _, python = pair.partition("=")
        if shutil.which(python) is None:
            raise UsageError(f"--peer-python has {pair!r}, where PEER=PYTHON is needed, PYTHON a program")
        found |= dict.fromkeys(PEERS[_peer(peer, "--peer-python")], python)
    return found


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for item in _listed(text):
        width, _, height = item.partition("x")
        found.append((_number(width, "--sizes", 28), _number(height, "--sizes", 28)))
    return tuple(found)


def _listed(text: str) -> list[str]:
    items = list(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))
    if not items:
        raise UsageError(f"{text!r} names nothing; separate values by commas")
    return items


def _number(text: str, option: str, least: int) -> int:
    if not text.isdigit():
        raise UsageError(f"{option} has {text!r} where a whole number is needed")
    return _between(option, int(text), least)


def _between(option: str, value: int, least: int) -> int:
    if not least <= value <= _MOST:
        raise UsageError(f"{option} has {value}; it must be between {least} and {_MOST}")
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
