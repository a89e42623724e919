"""The training loop: one stage of a recipe, resumable to the exact next batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from clearsight.model.precision import product_dtype
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.processor import Processor
from clearsight.train.average import Average
from clearsight.train.check import survey, usable_tokens
from clearsight.train.corpus import Collection, Corpus, PackedStream
from clearsight.train.costs import Learning, machine_peak, training_flops
from clearsight.train.data import BatchStream, Mix, Stream, batches
from clearsight.train.example import Example
from clearsight.train.journal import Journal, plot_losses
from clearsight.train.lora import LoraLinear, attach, skeleton
from clearsight.train.optim import learning_rate, make_optimizers, set_learning_rate, set_trainable
from clearsight.train.place import add_place, place_losses, remove_place
from clearsight.train.replica import Replica, joined
from clearsight.train.sharded import Sharded
from clearsight.train.sight import add_sight, remove_sight, sight_loss
from clearsight.train.stage import Stage
from clearsight.train.state import Workers, check_state, load_some, load_values, read_state, write_state

Evaluation = Callable[[Qwen2VL], dict[str, float]]
"""Figures about a model as it is, by name."""


def losses_of(model: Qwen2VL, batch: Example, balance: float = 0.0) -> Tensor:
    """(3,) the sums over what `batch` is learned for: its supervised tokens, its marks, and, if the model has the head
    for it, when and where its visual tokens are, how far what they show reaches and what its line begins with."""
    words = marks = places = torch.zeros((), device=model.device)
    seen_MD = None
    if batch.marks is not None and batch.inputs.vision is not None:
        seen_MD = model.encode_vision(batch.inputs.vision)
        marks = sight_loss(model, seen_MD, batch.marks)
    if batch.supervised.any():
        with place_losses(model, batch) as found:
            words = next_token_loss(model, batch, balance, seen_MD)
        places = sum(found, places)
    return torch.stack([words, marks, places])


def next_token_loss(model: Qwen2VL, batch: Example, balance: float = 0.0, seen_MD: Tensor | None = None) -> Tensor:
    """Cross-entropy in float32 summed over the supervised tokens, each predicted from the token before it and weighed
    by the length of its answer (`Example.weights`). seen_MD: what the tower saw, where that is known already."""
    hidden_TD = model(batch.inputs, seen_MD)
    # Every sequence starts with an unsupervised token, so the row before a target is always in the same sequence.
    targets = batch.supervised.nonzero().squeeze(1)
    logits = model.logits(hidden_TD[targets - 1]).float()
    losses = F.cross_entropy(logits, batch.inputs.ids[targets].to(logits.device), reduction="none")
    # No dot product: automatic precision would make it bfloat16.
    return (losses * batch.weights(balance).to(losses.device)).sum()


@dataclass
class _Run:
    """What a stage in progress holds."""

    stage: Stage
    model: Qwen2VL
    workers: Workers
    optimizers: list[torch.optim.Optimizer]
    average: Average
    peak: float
    learning: Learning
    losses: list[float] = field(default_factory=list)
    """Of the steps since the last record."""


def run_stage(
    model: Qwen2VL,
    processor: Processor,
    stage: Stage,
    folder: Path,
    workers: int = 1,
    *,
    stream: Stream | None = None,
    evaluation: Evaluation | None = None,
    shard: bool = False,
) -> Qwen2VL:
    """Train `model` in place through `stage` and return it; a second call goes on where the first stopped.

    State and metrics live in `folder`. Under `torchrun` every process takes its share of each batch; the losses are
    those of one process. workers: processes that make batches. stream: None makes the stage's own. evaluation: figures
    that are wanted every `stage.evaluate_every` steps and at the end. shard: divide the parameters over the processes
    (FSDP2); what is returned then is a new, whole model.
    """
    if shard and any(_objective(stage)[1:]):
        raise ValueError("a stage that learns marks or places cannot be sharded: their heads stand outside the model")
    folder.mkdir(parents=True, exist_ok=True)
    rank, size = joined()
    packs = stage.accumulate * size
    stream = stream or open_stream(processor, stage, packs)
    path = folder / f"{stage.name}.pt"
    saved = read_state(path)
    if saved:
        check_state(path, saved, stream.identity, None if isinstance(stream, BatchStream) else packs)
    done = int(saved["step"]) if saved else 0
    run = _start(model, stage, saved, path, shard)
    numbers = [step * packs + number for step in range(done, stage.steps) for number in range(rank, packs, size)]
    journal = Journal(folder, stage.name, done, stage.steps) if rank == 0 else None
    with ExitStack() as stack:
        if journal:
            stack.callback(journal.close)
        if stage.recompute:
            stack.enter_context(recomputing(model))
        for record in _steps(run, batches(stream, numbers, workers), done):
            step = record["step"]
            last = step == stage.steps
            if journal:
                journal.advance()
                if step % stage.log_every == 0 or last:
                    journal.write(record)
            if evaluation and (last or (stage.evaluate_every and step % stage.evaluate_every == 0)):
                _evaluate(run, evaluation, journal, step)
            if step % stage.log_every == 0:
                run.losses.clear()
            if step % stage.checkpoint_every == 0 or last:
                progress = {"step": step, "identity": stream.identity, "packs": packs, "losses": list(run.losses)}
                write_state(path, run.workers, run.optimizers, run.average, progress)
    run.average.settle()
    if _objective(stage)[1]:
        remove_sight(model)
    if _objective(stage)[2]:
        remove_place(model)
    if rank == 0:
        plot_losses(folder)
    return whole_model(model, run.workers)


def open_stream(processor: Processor, stage: Stage, packs: int) -> Stream:
    """What the stage learns from. Raises UnusableData for samples that cannot be used."""
    if isinstance(stage.mix, Corpus):
        collection = Collection(stage.mix)
        tokens = usable_tokens(stage.mix, survey(stage.mix, collection, processor))
        return PackedStream(processor, stage.mix, collection, tokens, stage.seed)
    return BatchStream(processor, stage.mix, stage.batch_size, stage.seed, packs)


def _objective(stage: Stage) -> tuple[float, float, float]:
    """What the mean losses of supervised tokens, of marks and of places weigh."""
    return stage.mix.objective if isinstance(stage.mix, Mix) else (1.0, 0.0, 0.0)


def _start(model: Qwen2VL, stage: Stage, saved: dict[str, Any] | None, path: Path, shard: bool) -> _Run:
    """Parameters first from the checkpoint, then divided over the processes, then the optimisers' state."""
    if stage.lora and not any(isinstance(module, LoraLinear) for module in model.modules()):
        attach(model, stage.lora, seed=stage.seed)
    own = {*model.state_dict()}
    if _objective(stage)[1]:
        add_sight(model, stage.seed)
    if _objective(stage)[2]:
        add_place(model)
    if stage.heads and not saved:
        earlier = path.with_name(f"{stage.heads}.pt")
        load_some(model, {*model.state_dict()} - own, earlier)
    set_trainable(model, stage)
    model.train()
    if saved:
        load_values(model, saved["model"], path)
    workers = Sharded(model) if shard else Replica(model)
    average = Average(workers.values(), stage.ema)
    optimizers = make_optimizers(model, stage)
    if saved:
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            workers.restore(optimizer, state)
        average.restore(saved.get("average", {}), workers.part)
    peak = machine_peak(model.device, product_dtype(stage.precision, model.device)) * workers.size
    losses = list(saved.get("losses", [])) if saved else []
    learning = Learning.of(model, stage.recompute, words=_objective(stage)[0] > 0)
    return _Run(stage, model, workers, optimizers, average, peak, learning, losses)


def _steps(run: _Run, stream: Iterator[Example], done: int) -> Iterator[dict[str, Any]]:
    """One optimiser step each; yields a record of it, with the loss averaged since the last logged step."""
    stage = run.stage
    meter = _Meter(run, done)
    for step in range(done, stage.steps):
        begin = time.perf_counter()
        packs = [next(stream) for _ in range(stage.accumulate)]
        meter.waited += time.perf_counter() - begin
        lr = learning_rate(step, stage)
        set_learning_rate(run.optimizers, lr)
        loss, norm = _update(run, packs)
        run.losses.append(loss)
        meter.count(packs)
        mean = sum(run.losses) / len(run.losses)
        yield {"step": step + 1, "loss": round(mean, 4), "lr": float(f"{lr:.4g}"), "gradient": round(norm, 4),
               **meter.figures(step + 1)}  # fmt: skip
        if (step + 1) % stage.log_every == 0:
            meter = _Meter(run, step + 1)


class _Meter:
    """Speed since the last record, of all processes together."""

    def __init__(self, run: _Run, step: int) -> None:
        self._run, self._first, self._mark = run, step, time.perf_counter()
        self.waited, self._samples, self._tokens, self._flops = 0.0, 0, 0, 0.0

    def count(self, packs: list[Example]) -> None:
        for pack in packs:
            self._samples += len(pack.inputs.lengths)
            self._tokens += pack.tokens
            supervised = int(pack.supervised.sum())
            self._flops += training_flops(self._run.model.config, pack.inputs, supervised, self._run.learning)

    def figures(self, step: int) -> dict[str, float]:
        """Rates a second; waited: seconds without a batch; left_s: to the end of the stage."""
        seconds, size = time.perf_counter() - self._mark, self._run.workers.size
        return {
            "samples_per_s": round(self._samples * size / seconds, 1),
            "tokens_per_s": round(self._tokens * size / seconds),
            "peak_share": round(self._flops * size / seconds / self._run.peak, 4),
            "waited": round(self.waited, 2),
            "left_s": round(seconds / (step - self._first) * (self._run.stage.steps - step)),
        }


def _update(run: _Run, packs: list[Example]) -> tuple[float, float]:
    """One optimiser step on the mean losses, weighed, over all that the packs of all processes are learned for.

    Returns their sum and the norm of its gradient.
    """
    device = run.model.device
    counts = torch.stack([pack.learned(run.stage.balance) for pack in packs])
    shares = torch.tensor(_objective(run.stage), device=device)
    # Where nothing is learned of a kind its loss is 0, and so is its count.
    shares = shares / run.workers.add(counts.sum(0).to(device)).clamp(min=1e-6)
    total = torch.zeros((), device=device)
    for pack in packs:
        with _precision(run.stage, device):
            loss = (losses_of(run.model, pack, run.stage.balance) * shares).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    norm = run.workers.collect_gradients(run.stage.clip)
    for optimizer in run.optimizers:
        optimizer.step()
    run.workers.share_updates()
    run.average.update()
    return run.workers.add(total).item(), norm


def _precision(stage: Stage, device: torch.device) -> AbstractContextManager[Any]:
    dtype = product_dtype(stage.precision, device)
    return torch.autocast(device.type, dtype) if dtype == torch.bfloat16 else nullcontext()


def _evaluate(run: _Run, evaluation: Evaluation, journal: Journal | None, step: int) -> None:
    """On the first process, with the averaged weights if there are such."""
    with run.average.in_place():
        model = whole_model(run.model, run.workers)
        if journal is None:
            return
        model.eval()
        with torch.inference_mode():
            figures = evaluation(model)
        model.train()
    journal.write({"step": step, **figures})


def whole_model(model: Qwen2VL, workers: Workers) -> Qwen2VL:
    """The model itself, or what all processes hold of it put together; every process must ask, and gets it."""
    if isinstance(workers, Replica):
        return model
    tensors = {name: workers.whole(value.detach()) for name, value in model.named_parameters()}
    whole = skeleton(model)
    whole.load_state_dict(tensors, assign=True)
    return whole


@contextmanager
def recomputing(model: Qwen2VL) -> Iterator[None]:
    """Blocks keep their inputs alone and are run again for the gradient."""
    blocks = [*model.visual.blocks, *model.model.layers]
    for block in blocks:
        # On the instance, so that no parameter changes its name.
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
