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
from clearsight.train.replica import Replica


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
    """Cross-entropy in float32 summed over the supervised tokens, each predicted from the token before it."""
    hidden_TD = model(batch.inputs)
    # Every sequence starts with an unsupervised token, so the row before a target is always in the same sequence.
    targets = batch.supervised.nonzero().squeeze(1)
    logits = model.logits(hidden_TD[targets - 1]).float()
    return F.cross_entropy(logits, batch.inputs.ids[targets], reduction="sum")


def run_stage(model: Qwen2VL, processor: Processor, stage: Stage, folder: Path, workers: int = 1) -> None:
    """Train `model` in place through `stage`; state lives in `folder` and a second call goes on where it stopped.

    Under `torchrun` every process takes its share of each batch; the losses are those of one process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_path = folder / f"{stage.name}.pt"
    saved = torch.load(state_path, weights_only=True, mmap=True) if state_path.exists() else None
    if saved:
        model.load_state_dict(saved["model"])
    replica = Replica(model)
    optimizers = make_optimizers(model, stage.lr, stage.weight_decay)
    if saved:
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
    done = int(saved["step"]) if saved else 0
    stream = BatchStream(processor, stage.mix, stage.batch_size, stage.seed, (replica.rank, replica.size))
    with (folder / "metrics.jsonl").open("a") as log:
        for record in _steps(model, replica, optimizers, stage, batches(stream, done, stage.steps, workers), done):
            step = record["step"]
            if replica.rank == 0 and (step % stage.log_every == 0 or step == stage.steps):
                print(json.dumps(record), file=log, flush=True)
                print(record, flush=True)
            if step % stage.checkpoint_every == 0 or step == stage.steps:
                _save_state(state_path, model, replica, optimizers, step)


def _steps(
    model: Qwen2VL,
    replica: Replica,
    optimizers: list[torch.optim.Optimizer],
    stage: Stage,
    stream: Iterator[Batch],
    done: int,
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
        losses.append(_update(model, replica, optimizers, batch, stage.clip))
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


def _update(
    model: Qwen2VL, replica: Replica, optimizers: list[torch.optim.Optimizer], batch: Batch, clip: float
) -> float:
    """One optimiser step on the mean loss over the supervised tokens of all processes' batches; returns that mean."""
    tokens = replica.add(batch.supervised.sum(dtype=torch.float32))
    with torch.autocast(model.device.type, torch.bfloat16):
        loss = next_token_loss(model, batch) / tokens
    loss.backward()  # type: ignore[no-untyped-call]
    replica.add(replica.gradient)
    replica.gradient.mul_((clip / replica.gradient.norm()).clamp(max=1.0))
    replica.keep_own_gradients()
    for optimizer in optimizers:
        optimizer.step()
    replica.share_values()
    replica.clear()
    return replica.add(loss.detach()).item()


def _save_state(
    path: Path, model: Qwen2VL, replica: Replica, optimizers: list[torch.optim.Optimizer], step: int
) -> None:
    """Whole or not at all: written beside and renamed."""
    states = [replica.gather(optimizer) for optimizer in optimizers]
    if replica.rank == 0:
        draft = path.with_suffix(".tmp")
        torch.save({"model": model.state_dict(), "optimizers": states, "step": step}, draft)
        os.replace(draft, path)
