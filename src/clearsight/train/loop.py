"""The training loop: one stage of a recipe, resumable to the exact next batch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.processor import Processor
from clearsight.train.data import Batch, BatchStream, Mix, batches
from clearsight.train.optim import learning_rate, make_optimizers


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything that shapes one stage of training."""

    name: str
    mix: Mix
    steps: int
    batch_size: int = 64
    lr: float = 4e-3
    weight_decay: float = 0.01
    warmup: int = 100
    decay: float = 0.3
    clip: float = 1.0
    seed: int = 0
    checkpoint_every: int = 100
    log_every: int = 20


def next_token_loss(model: Qwen2VL, batch: Batch) -> Tensor:
    """Mean cross-entropy in float32 over the supervised tokens, each predicted from the token before it."""
    hidden_TD = model(batch.inputs)
    # Every sequence starts with an unsupervised token, so the row before a target is always in the same sequence.
    targets = batch.supervised.nonzero().squeeze(1)
    logits = model.logits(hidden_TD[targets - 1]).float()
    return F.cross_entropy(logits, batch.inputs.ids[targets])


def run_stage(model: Qwen2VL, processor: Processor, stage: Stage, folder: Path, workers: int = 1) -> None:
    """Train `model` in place through `stage`; state lives in `folder` and a second call goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizers = make_optimizers(model, stage.lr, stage.weight_decay)
    state_path = folder / f"{stage.name}.pt"
    done = _load_state(state_path, model, optimizers)
    stream = BatchStream(processor, stage.mix, stage.batch_size, stage.seed)
    with (folder / "metrics.jsonl").open("a") as log:
        for record in _steps(model, optimizers, stage, batches(stream, done, stage.steps, workers), done):
            step = record["step"]
            if step % stage.log_every == 0 or step == stage.steps:
                print(json.dumps(record), file=log, flush=True)
                print(record, flush=True)
            if step % stage.checkpoint_every == 0 or step == stage.steps:
                _save_state(state_path, model, optimizers, step)


def _steps(
    model: Qwen2VL, optimizers: list[torch.optim.Optimizer], stage: Stage, stream: Iterator[Batch], done: int
) -> Iterator[dict[str, Any]]:
    """One optimiser step a batch; yields a record of each, with the loss averaged since the last logged step."""
    losses: list[float] = []
    mark = time.perf_counter()
    waited = 0.0
    for step in range(done, stage.steps):
        begin = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - begin
        lr = learning_rate(step, stage.steps, stage.lr, stage.warmup, stage.decay)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group["share"]
        with torch.autocast(model.device.type, torch.bfloat16):
            loss = next_token_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), stage.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        yield {
            "stage": stage.name,
            "step": step + 1,
            "loss": round(sum(losses) / len(losses), 4),
            "lr": round(lr, 6),
            "samples_per_s": round(len(losses) * stage.batch_size / (time.perf_counter() - mark), 1),
            "waited": round(waited, 2),
        }
        if (step + 1) % stage.log_every == 0:
            losses, mark, waited = [], time.perf_counter(), 0.0


def _save_state(path: Path, model: Qwen2VL, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    """Whole or not at all: written beside and renamed."""
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step}
    draft = path.with_suffix(".tmp")
    torch.save(state, draft)
    os.replace(draft, path)


def _load_state(path: Path, model: Qwen2VL, optimizers: list[torch.optim.Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])
