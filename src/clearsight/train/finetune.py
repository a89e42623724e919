"""Fine-tuning on a user's data: from what was asked for to a plan that can be shown, and from the plan to weights."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from clearsight.config import ConfigError
from clearsight.model.hub import preset_for, read_config, resolve
from clearsight.model.lora import read_adapter, write_adapter
from clearsight.model.precision import makes_tiles
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.weights import empty_model, load_model, random_model, save_model
from clearsight.processor import Processor
from clearsight.train.check import Survey, survey, usable_tokens
from clearsight.train.corpus import Collection, Corpus, PackedStream
from clearsight.train.costs import Learning, Memory, flops, memory
from clearsight.train.evaluate import held_out_figures
from clearsight.train.loop import Evaluation, run_stage
from clearsight.train.lora import attach, attached
from clearsight.train.optim import set_trainable
from clearsight.train.replica import joined
from clearsight.train.stage import Stage
from clearsight.vlm import load_processor

# Of the peak of large products, in models narrower than this and in wider ones (docs/training.md).
_NARROW, _NARROW_SHARE, _WIDE_SHARE = 1024, 0.25, 0.6
# The same where large products are made in tiles, several times as fast: what stands between them is not.
_NARROW_TILED_SHARE = 0.05
# Assumed before any sample is tokenised: this share of the tokens is learned.
_LEARNED_SHARE = 0.25
_EVALUATED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What was asked for. stage.steps counts only if epochs is 0. held_out: data to evaluate on. adapter: go on from
    this one. min_pixels, max_pixels: areas of pictures other than the model's own. random_weights: for trials."""

    model: str
    stage: Stage
    out: Path
    epochs: float = 0.0
    held_out: Corpus | None = None
    adapter: Path | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    random_weights: bool = False
    workers: int = 1
    shard: bool = False

    @property
    def corpus(self) -> Corpus:
        assert isinstance(self.stage.mix, Corpus)
        return self.stage.mix


@dataclass(frozen=True, slots=True)
class Plan:
    """A job whose data has been looked at. stage: with its true number of steps."""

    job: Job
    processor: Processor
    collection: Collection
    found: Survey
    stream: PackedStream
    stage: Stage


def trainer_processor(job: Job) -> Processor:
    """The model's own processor, its picture areas as wished; samples may be longer than the model's context, as they
    are cut after. Raises ConfigError."""
    processor = load_processor(job.model)
    limit = processor.config.text.max_positions
    if job.corpus.max_tokens > limit:
        raise ConfigError(f"max_tokens is {job.corpus.max_tokens}; {job.model} takes at most {limit}")
    wishes = {name: value for name in ("min_pixels", "max_pixels") if (value := getattr(job, name)) is not None}
    roomy = replace(processor.config, text=replace(processor.config.text, max_positions=2**30))
    own = Processor(processor.tokenizer, roomy, replace(processor.image_settings, **wishes))
    own.context = job.corpus.max_tokens  # videos are fitted to it
    return own


def examine(job: Job, progress: Callable[[int], object] = lambda _: None) -> tuple[Collection, Survey]:
    """Look at every sample of the data."""
    collection, processor = Collection(job.corpus), trainer_processor(job)
    return collection, survey(job.corpus, collection, processor, progress=progress)


def make_plan(job: Job, collection: Collection, found: Survey) -> Plan:
    """Raises UnusableData for samples that cannot be used and may not be left out."""
    processor = trainer_processor(job)
    stream = PackedStream(processor, job.corpus, collection, usable_tokens(job.corpus, found), job.stage.seed)
    stage = job.stage
    if job.epochs:
        packs = stage.accumulate * joined()[1]
        stage = replace(stage, steps=max(1, math.ceil(job.epochs * stream.packs_per_epoch / packs)))
    return Plan(job, processor, collection, found, stream, replace(stage, warmup=min(stage.warmup, stage.steps // 10)))


@dataclass(frozen=True, slots=True)
class Costs:
    """parameters: (learned, all). flops: of the whole run; share: of the machine's peak that it is likely to reach.
    memory: of one process."""

    parameters: tuple[int, int]
    flops: float
    share: float
    memory: Memory


def estimate(plan: Plan) -> Costs:
    """From the sizes of the samples; nothing is loaded."""
    config, stage = plan.processor.config, plan.stage
    model = empty_model(config)
    every = sum(p.numel() for p in model.parameters())
    if stage.lora:
        model = model.to(torch.bfloat16)
        attach(model, stage.lora)
    set_trainable(model, stage)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    learning = Learning.of(model, stage.recompute)
    packs = [[plan.found.sizes[i] for i in plan.stream.samples(n)] for n in range(plan.stream.packs_per_epoch)]
    work = 0.0
    for pack in packs:
        lengths, slots = [size.tokens for size in pack], [size.patches for size in pack]
        work += flops(config, lengths, slots, round(sum(lengths) * _LEARNED_SHARE), learning)
    largest = max(packs, key=lambda pack: sum(size.tokens + size.patches for size in pack))
    tokens, patches = sum(size.tokens for size in largest), sum(size.patches for size in largest)
    supervised, muon = round(tokens * _LEARNED_SHARE), stage.optimizer == "muon"
    needed = memory(config, model, tokens, patches, supervised, learning, muon)
    share = _WIDE_SHARE
    if config.text.hidden_size < _NARROW:
        share = _NARROW_TILED_SHARE if makes_tiles(stage.precision) else _NARROW_SHARE
    return Costs((learned, every), work / len(packs) * stage.steps * stage.accumulate, share, needed)


def run(plan: Plan) -> Path:
    """Train, and write the adapter or the whole model; returns its folder. Every process of `torchrun` calls."""
    job, stage = plan.job, plan.stage
    model = _load(job)
    if job.adapter is not None and stage.lora is not None:
        attach(model, stage.lora, start=read_adapter(job.adapter))
    evaluation = _evaluation(job, plan.processor)
    model = run_stage(model, plan.processor, stage, job.out, job.workers, stream=plan.stream, evaluation=evaluation,
              shard=job.shard)  # fmt: skip
    return _save(plan, model)


def _load(job: Job) -> Qwen2VL:
    if job.random_weights:
        return random_model(preset_for(job.model), dtype=torch.bfloat16)
    folder = resolve(job.model)
    return load_model(folder, read_config(folder))


def _evaluation(job: Job, processor: Processor) -> Evaluation | None:
    if job.held_out is None:
        return None
    collection = Collection(job.held_out)
    tokens = usable_tokens(job.held_out, survey(job.held_out, collection, processor))
    stream = PackedStream(processor, job.held_out, collection, tokens, seed=0)
    chosen = [index for index, count in enumerate(tokens) if count][:_EVALUATED]
    records = [collection[index] for index in chosen] if job.held_out.form == "chat" else []
    # Made anew each time: the pixels of hundreds of pictures are not held for hours.
    return held_out_figures(lambda: map(stream.example, chosen), records, processor)


def _save(plan: Plan, model: Qwen2VL) -> Path:
    job = plan.job
    folder = job.out / ("adapter" if plan.stage.lora else "model")
    if joined()[0] != 0:
        return folder
    if plan.stage.lora:
        write_adapter(attached(model, job.model), folder)
    else:
        save_model(model, folder)
        save_beside(job.model, plan.processor, folder, random_weights=job.random_weights)
    return folder


def save_beside(name: str, processor: Processor, folder: Path, *, random_weights: bool = False) -> None:
    """What else a model folder needs: tokenizer, picture settings and the model's answer settings, if it has any."""
    processor.save(folder)
    if random_weights:
        return
    settings = resolve(name) / "generation_config.json"
    if settings.is_file():
        shutil.copyfile(settings, folder / settings.name)
