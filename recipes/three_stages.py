"""The paper's recipe at any size on your own data, from random weights or a checkpoint:

python recipes/three_stages.py --size 2b --pairs captions.jsonl --mixture all.jsonl --dialogue chats.jsonl --out runs/2b

Killed at any moment, the same command goes on where it stopped. `torchrun --nproc-per-node N` divides the work, and
`--shard` the weights as well. To try it without data: `--size nano --steps 20`, on pictures that the project draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from clearsight.config import PRESETS
from clearsight.model.hub import resolve
from clearsight.model.weights import load_model, random_model, save_model
from clearsight.processor import Processor
from clearsight.train import recipe
from clearsight.train.corpus import Corpus
from clearsight.train.data import Mix
from clearsight.train.loop import run_stage
from clearsight.train.replica import joined, process_group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="nano", choices=sorted(PRESETS))
    parser.add_argument("--init", help="start from this checkpoint (a name or folder), not from random weights")
    parser.add_argument("--pairs", help="picture-text pairs for the first stage")
    parser.add_argument("--mixture", help="pictures, videos and text for the second")
    parser.add_argument("--dialogue", help="conversations for the third")
    parser.add_argument("--steps", type=int, default=1000, help="of each stage")
    parser.add_argument("--pack-tokens", type=int, default=8192)
    parser.add_argument("--shard", action="store_true", help="divide the weights over the processes")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config, processor = PRESETS[arguments.size], Processor.packaged(arguments.size)

    def data(file: str | None, form: str) -> Mix | Corpus:
        if file is None:
            return Mix(weights={"word": 0.5, "shapes": 0.5}, form=form, level_start=0.5)
        return Corpus(files=(file,), form=form, pack_tokens=arguments.pack_tokens, truncate=True, skip_bad=True)

    stages = [
        recipe.see(config, data(arguments.pairs, "caption"), arguments.steps),
        recipe.understand(config, data(arguments.mixture, "caption"), arguments.steps),
        recipe.follow(config, data(arguments.dialogue, "chat"), arguments.steps),
    ]
    with process_group():
        if arguments.init:
            model = load_model(resolve(arguments.init), config, dtype=torch.float32)
        else:
            model = random_model(config, seed=0)
        for stage in stages:
            model = run_stage(model, processor, stage, arguments.out, shard=arguments.shard)
        if joined()[0] == 0:
            save_model(model, arguments.out / "model")
            processor.save(arguments.out / "model")


if __name__ == "__main__":
    main()
