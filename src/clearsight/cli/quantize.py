"""`clearsight quantize`: a model folder with packed weights, which later loads memory-mapped."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from time import perf_counter

from clearsight.cli.options import UsageError
from clearsight.cli.output import show_json

# Written anew with the weights.
_OURS = ("config.json", "model.safetensors.index.json")


def add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="nano, 2b, 7b, 72b, a hub name or a folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write; must not exist, or be empty")
    parser.add_argument("--mode", choices=("int8", "int4"), default="int4",
                        help="all linear layers in 8 bits, or the language model's in 4 (default: int4)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def quantize(args: argparse.Namespace) -> int:
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UsageError(f"{args.out} exists already; name a new or an empty folder")
    from clearsight.model.hub import read_config, resolve
    from clearsight.model.quantize import load, save_quantized

    source = resolve(args.model)
    start = perf_counter()
    model = load(source, read_config(source), mode=args.mode)
    save_quantized(model, args.out)
    for path in (*source.glob("*.json"), *source.glob("merges.txt")):
        if path.name not in _OURS:
            shutil.copyfile(path, args.out / path.name)
    before, after = (sum(path.stat().st_size for path in folder.glob("*.safetensors")) for folder in (source, args.out))
    data = {"out": str(args.out), "mode": args.mode, "bytes": after, "bytes_before": before}
    if args.json:
        show_json({**data, "seconds": round(perf_counter() - start, 2)})
    else:
        print(f"{args.out}: {after / 1e6:.1f} MB of weights, before {before / 1e6:.1f} MB")
    return 0
