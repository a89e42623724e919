"""Muon beside AdamW: the same samples in the same order from the same start, two runs at a time on a core each.

`python benchmarks/optimizers.py --steps 150`: prints the held-out loss after each run and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from clearsight.config import NANO
from clearsight.model.weights import random_model
from clearsight.processor import Processor
from clearsight.train.data import Mix, encode
from clearsight.train.example import Example, pack
from clearsight.train.loop import next_token_loss, run_stage
from clearsight.train.stage import Stage
from clearsight.train.worlds import draw

RUNS = (("muon", 3e-3), ("adamw", 1e-3), ("muon", 6e-3), ("adamw", 3e-3), ("muon", 1.5e-3), ("adamw", 5e-4))
MIX = Mix(weights={"word": 0.6, "shapes": 0.4}, form="chat", level_start=0.2, level_end=0.2)


def held_out(processor: Processor) -> Example:
    return pack([encode(draw(w, seed, "test", 0.2), processor, "chat") for w in MIX.weights for seed in range(48)])


def run(optimizer: str, lr: float, steps: int, batch: int) -> dict[str, float | str]:
    torch.set_num_threads(1)
    processor = Processor.packaged("nano")
    stage = Stage(
        name=optimizer, mix=MIX, steps=steps, batch_size=batch, lr=lr, optimizer=optimizer, warmup=20, decay=0.4
    )
    model = random_model(NANO, seed=0).train()
    with tempfile.TemporaryDirectory() as folder:
        run_stage(model, processor, stage, Path(folder), workers=0)
        last = json.loads((Path(folder) / "metrics.jsonl").read_text().splitlines()[-1])
    batch_held_out = held_out(processor)
    with torch.no_grad():
        loss = (next_token_loss(model, batch_held_out) / batch_held_out.learned()[0]).item()
    return {
        "optimizer": optimizer,
        "lr": lr,
        "loss": last["loss"],
        "held_out": round(loss, 4),
        "samples_per_s": last["samples_per_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(run, *choice, arguments.steps, arguments.batch) for choice in RUNS]
        figures = [future.result() for future in waiting]
    for figure in sorted(figures, key=lambda figure: figure["held_out"]):
        print("{optimizer:6} lr {lr:<7g} held-out loss {held_out:.3f}, {samples_per_s} samples/s".format(**figure))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
