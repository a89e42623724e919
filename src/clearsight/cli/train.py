"""`clearsight train`: fine-tune a model on your own data, or look at the data first."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearsight.cli.options import UsageError

if TYPE_CHECKING:
    from clearsight.train.check import Survey
    from clearsight.train.corpus import Collection, Corpus
    from clearsight.train.finetune import Job, Plan

_SHOWN_SAMPLES = 3
_PARTS = ("vision", "merger", "language")


def add_train(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    _add_what(parser)
    _add_how(parser)
    _add_course(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", required=True, metavar="FILE",
                        help="JSON lines or list, table, saved dataset or hub name; may be repeated")  # fmt: skip
    parser.add_argument("--held-out", metavar="FILE", help="evaluate on this data while training")
    parser.add_argument(
        "--media-root", metavar="DIR", help="where names of pictures start (default: the data's folder)"
    )
    parser.add_argument("--split", default="train", help="of a dataset that has several (default: train)")
    parser.add_argument("--form", choices=("chat", "caption"), default="chat",
                        help="caption: pictures and texts without chat format (default: chat)")  # fmt: skip
    parser.add_argument("--max-tokens", type=int, default=2048, metavar="N", help="of one sample (default: 2048)")
    parser.add_argument("--truncate", action="store_true", help="cut longer samples, before a picture, not through it")
    parser.add_argument("--pack-tokens", type=int, metavar="N", help="in one pass (default: twice --max-tokens)")
    parser.add_argument("--skip-bad", action="store_true", help="leave out samples that cannot be used")
    parser.add_argument("--min-pixels", type=int, metavar="N", help="enlarge smaller pictures to this area")
    parser.add_argument("--max-pixels", type=int, metavar="N", help="shrink larger pictures to this area")
    parser.add_argument("--dry-run", action="store_true",
                        help="check every sample, show three, estimate memory and time; train nothing")  # fmt: skip


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano", help="nano, 2b, 7b, 72b, a hub name or a folder (default: nano)")
    parser.add_argument("--random-weights", action="store_true", help="true shape, no download: for trials")
    parser.add_argument("--out", metavar="DIR", help="for checkpoints, metrics and the result")
    parser.add_argument("--lora", type=int, metavar="RANK", help="train an adapter of this rank, not the weights")
    parser.add_argument("--lora-alpha", type=float, metavar="N", help="default: twice the rank")
    parser.add_argument("--lora-vision", action="store_true", help="adapt the vision tower too")
    parser.add_argument("--adapter", metavar="DIR", help="go on from this adapter; its own rank holds")
    parser.add_argument("--parts", default=None, metavar="A,B",
                        help="without --lora: of vision,merger,language (default: the last two)")  # fmt: skip
    parser.add_argument("--shard", action="store_true", help="under torchrun, divide the weights over the processes")


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lr", type=float, metavar="N", help="default: 1e-4 with --lora, else 1e-5")
    parser.add_argument("--vision-rate", type=float, default=1.0, metavar="N", help="the vision tower's share of --lr")
    parser.add_argument("--merger-rate", type=float, default=1.0, metavar="N", help="the merger's share of --lr")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw", help="default: adamw")
    parser.add_argument("--schedule", choices=("cosine", "trapezoid"), default="cosine", help="default: cosine")
    parser.add_argument("--warmup", type=int, default=100, metavar="N", help="steps, at most a tenth (default: 100)")
    parser.add_argument("--weight-decay", type=float, default=0.0, metavar="N", help="default: 0")
    parser.add_argument("--clip", type=float, default=1.0, metavar="N", help="largest norm of a gradient (default: 1)")
    parser.add_argument("--ema", type=float, default=0.0, metavar="N", help="decay of averaged weights (default: none)")
    parser.add_argument(
        "--precision",
        choices=("auto", "bfloat16", "float32"),
        default="auto",
        help="of the products (default: auto, bfloat16 where the machine has it)",
    )
    parser.add_argument("--recompute", action="store_true", help="less memory, a third more work")


def _add_course(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=float, metavar="N", help="passes over the data (default: 1)")
    parser.add_argument("--steps", type=int, metavar="N", help="optimiser steps, instead of --epochs")
    parser.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="packs a step, each process (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that read data (default: 1)")
    parser.add_argument("--save-every", type=int, default=100, metavar="N", help="steps (default: 100)")
    parser.add_argument("--log-every", type=int, default=10, metavar="N", help="steps (default: 10)")
    parser.add_argument("--evaluate-every", type=int, default=0, metavar="N", help="steps (default: at the end)")


def train(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a dry run found problems. Raises UsageError and what reading and training raise."""
    from clearsight.train.finetune import examine, make_plan, run
    from clearsight.train.replica import process_group

    job = _job(args)
    first = os.environ.get("RANK", "0") == "0"
    if not args.dry_run and not args.out:
        raise UsageError("--out is missing: where shall the result go?")
    with process_group():
        with _bar(first) as progress:
            collection, found = examine(job, progress.update)
        if args.dry_run:
            return _report(job, collection, found)
        plan = make_plan(job, collection, found)
        if first:
            _announce(plan)
        folder = run(plan)
    if first:
        print(f"clearsight: the result is in {folder}")
        print(_next_step(args, folder))
    return 0


def _bar(first: bool) -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(desc="samples checked", unit="", leave=False, disable=not (first and sys.stderr.isatty()))


def _next_step(args: argparse.Namespace, folder: Path) -> str:
    if args.lora:
        return f'  clearsight ask PICTURE "..." --model {args.model} --adapter {folder}'
    return f'  clearsight ask PICTURE "..." --model {folder}'


# --- what was asked for ------------------------------------------------------------------------------------


def _job(args: argparse.Namespace) -> Job:
    from clearsight.train.finetune import Job
    from clearsight.train.stage import Lora, Stage

    if args.epochs is not None and args.steps is not None:
        raise UsageError("--epochs and --steps exclude each other")
    epochs = (1.0 if args.epochs is None else args.epochs) if args.steps is None else 0.0
    if args.steps is None and not 0 < epochs <= 10_000:
        raise UsageError(f"--epochs is {epochs:g}; it must be above 0 and at most 10000")
    for name in ("lora_alpha", "lora_vision", "adapter"):
        if getattr(args, name) and not args.lora:
            raise UsageError(f"--{name.replace('_', '-')} goes with --lora")
    if args.lora and args.parts:
        raise UsageError("--parts is for training without --lora")
    try:
        lora = None
        if args.lora is not None:
            lora = Lora(rank=args.lora, alpha=args.lora_alpha or 2 * args.lora, vision=args.lora_vision)
        stage = Stage(
            name="train",
            mix=_corpus(args, args.data),
            steps=args.steps or 1,
            accumulate=args.accumulate,
            rates=_rates(args),
            lora=lora,
            optimizer=args.optimizer,
            lr=args.lr or (1e-4 if lora else 1e-5),
            weight_decay=args.weight_decay,
            warmup=args.warmup,
            schedule=args.schedule,
            clip=args.clip,
            precision=args.precision,
            recompute=args.recompute,
            ema=args.ema,
            seed=args.seed,
            checkpoint_every=args.save_every,
            log_every=args.log_every,
            evaluate_every=args.evaluate_every,
        )
        held_out = _corpus(args, [args.held_out]) if args.held_out else None
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Job(
        model=args.model,
        stage=stage,
        out=Path(args.out or "."),
        epochs=epochs,
        held_out=held_out,
        adapter=Path(args.adapter) if args.adapter else None,
        min_pixels=args.min_pixels,
        max_pixels=args.max_pixels,
        random_weights=args.random_weights,
        workers=args.workers,
        shard=args.shard,
    )


def _corpus(args: argparse.Namespace, files: list[str]) -> Corpus:
    from clearsight.train.corpus import Corpus

    return Corpus(
        files=tuple(files),
        form=args.form,
        max_tokens=args.max_tokens,
        pack_tokens=args.pack_tokens or 2 * args.max_tokens,
        truncate=args.truncate,
        media_root=args.media_root,
        split=args.split,
        skip_bad=args.skip_bad,
    )


def _rates(args: argparse.Namespace) -> Any:
    from clearsight.train.stage import Rates

    if args.lora:
        parts = [part for part in _PARTS if part != "vision" or args.lora_vision]
    else:
        parts = (args.parts or "merger,language").split(",")
    unknown = [part for part in parts if part not in _PARTS]
    if unknown:
        raise UsageError(f"--parts names {unknown[0]!r}; the parts are {', '.join(_PARTS)}")
    wanted = {"vision": args.vision_rate, "merger": args.merger_rate, "language": 1.0}
    return Rates(**{part: rate if part in parts else 0.0 for part, rate in wanted.items()})


# --- what is shown -----------------------------------------------------------------------------------------


def _report(job: Job, collection: Collection, found: Survey) -> int:
    from dataclasses import replace

    from clearsight.train.finetune import make_plan
    from clearsight.train.show import show_tokens

    for problem in found.problems:
        print(" ".join(problem.split()))
    if found.problems:
        print(f"{len(found.problems)} of {len(found.sizes)} samples cannot be used\n")
    if not found.usable:
        return 1
    rest = replace(job, stage=replace(job.stage, mix=replace(job.corpus, skip_bad=True)))
    plan = make_plan(rest, collection, found)
    merge = plan.processor.config.vision.merge_size
    usable = [index for index, tokens in enumerate(found.tokens) if tokens]
    for index in usable[:_SHOWN_SAMPLES]:
        example = plan.stream.example(index)
        learned = int(example.supervised.sum())
        print(f"{collection.place(index)}: {example.tokens} tokens, {learned} of them learned (between « and »)")
        print(show_tokens(example, plan.processor.tokenizer, colour=sys.stdout.isatty(), merge_size=merge), "\n")
    _announce(plan)
    return 1 if found.problems else 0


def _announce(plan: Plan) -> None:
    """Sizes, memory and time before anything starts."""
    import torch

    from clearsight.model.precision import product_dtype
    from clearsight.train.costs import machine_peak
    from clearsight.train.finetune import estimate

    found, stage, corpus = plan.found, plan.stage, plan.job.corpus
    costs = estimate(plan)
    print(f"data: {found.usable:,} samples, {sum(found.tokens):,} tokens, the longest {max(found.tokens):,};"
          f" {plan.stream.packs_per_epoch:,} packs of at most {corpus.pack_tokens:,} tokens an epoch")  # fmt: skip
    print(f"learning: {costs.parameters[0]:,} of {costs.parameters[1]:,} parameters, {stage.steps:,} steps")
    needed = costs.memory
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    print(f"memory: about {_gigabytes(needed.total)} (weights {_gigabytes(needed.weights)}, learning"
          f" {_gigabytes(needed.learning)}, the largest pack {_gigabytes(needed.activations)}); this machine has"
          f" {_gigabytes(total)}")  # fmt: skip
    if needed.total > total:
        print("memory: more than this machine has; try --lora, --recompute or a smaller --pack-tokens")
    peak = machine_peak(torch.device("cpu"), product_dtype(stage.precision, torch.device("cpu")))
    print(f"time: about {_duration(costs.flops / peak / costs.share)} here ({costs.flops:.2g} operations;"
          f" {costs.share:.0%} of {peak:.2g} a second assumed)")  # fmt: skip


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2g} GB" if count < 9.95e9 else f"{count / 1e9:.0f} GB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
