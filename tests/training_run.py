"""A small training run as a process of its own: `python training_run.py OUT [--shard]`, or under torchrun.

The run that test_train_processes.py kills, resumes and divides over processes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from conftest import TINY

from clearsight.model.weights import random_model, save_model
from clearsight.processor import ImageSettings, Processor, Tokenizer
from clearsight.train.data import Mix
from clearsight.train.loop import run_stage
from clearsight.train.replica import joined, process_group
from clearsight.train.stage import Lora, Rates, Stage

STAGE = Stage(
    name="run",
    mix=Mix(weights={"word": 0.5, "shapes": 0.5}, form="chat", level_start=0.2, ramp=4),
    steps=6,
    batch_size=4,
    warmup=2,
    precision="float32",
    ema=0.5,
    checkpoint_every=2,
    log_every=1,
)


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record["loss"] for line in lines if "loss" in (record := json.loads(line))]


def train(folder: Path, *stages: Stage, shard: bool = False) -> None:
    processor = Processor(Tokenizer.packaged("nano"), TINY, ImageSettings())
    model = random_model(TINY)
    for stage in stages:
        model = run_stage(model.requires_grad_(), processor, stage, folder, workers=0, shard=shard)
    if joined()[0] == 0:
        save_model(model, folder / "model", dtype=model.dtype)


VARIANTS = {
    "plain": STAGE,
    "adamw": replace(STAGE, optimizer="adamw", recompute=True),
    "lora": replace(STAGE, optimizer="adamw", lora=Lora(rank=4, alpha=8), rates=Rates(vision=0.0)),
    "long": replace(STAGE, steps=24, batch_size=2),
}

# The second begins with the heads that the first has written at its end, and only then.
_SIGHT = replace(STAGE, mix=replace(STAGE.mix, sight=0.5), ema=0.0, steps=1)
IN_TURN = (_SIGHT, replace(_SIGHT, name="then", heads=_SIGHT.name))

if __name__ == "__main__":
    with process_group():
        named = IN_TURN if sys.argv[2] == "in turn" else (VARIANTS[sys.argv[2]],)
        train(Path(sys.argv[1]), *named, shard="--shard" in sys.argv)
