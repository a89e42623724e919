"""`clearsight merge`: fold an adapter into the weights of its model."""

from __future__ import annotations

import argparse
from pathlib import Path

from clearsight.cli.options import UsageError


def add_merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", help="a folder as PEFT and `clearsight train --lora` write it")
    parser.add_argument("--model", help="the model to change (default: the one that the adapter names)")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder for the merged model")


def merge(args: argparse.Namespace) -> int:
    from clearsight.model.hub import read_config, resolve
    from clearsight.model.lora import merge as fold
    from clearsight.model.lora import read_adapter
    from clearsight.model.weights import load_model, save_model
    from clearsight.train.finetune import save_beside
    from clearsight.vlm import load_processor

    adapter, out = read_adapter(Path(args.adapter)), Path(args.out)
    name = args.model or adapter.base
    if not name:
        raise UsageError("the adapter does not name its model; give --model")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; give a new folder")
    folder = resolve(name)
    model = load_model(folder, read_config(folder))
    fold(model, adapter)
    save_model(model, out, dtype=model.dtype)
    save_beside(name, load_processor(name), out)
    print(f"clearsight: {name} with {len(adapter.layers)} changed layers is in {out}")
    return 0
