"""Evaluation while training: held-out loss, and answers through the same model and processor code that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from clearsight.engine import Engine
from clearsight.engine.defaults import GenerationDefaults
from clearsight.eval import Labelled, judge, replies
from clearsight.messages import Box, Message, Tool
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.processor import Processor
from clearsight.train.example import Example
from clearsight.train.loop import next_token_loss
from clearsight.train.records import Record
from clearsight.vlm import VLM

_MAX_ANSWERS = 64


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A conversation whose last assistant turn the model has to write itself, judged exactly."""

    prompt: tuple[Message, ...]
    label: Message
    tools: tuple[Tool, ...]
    skill: str = "answer"
    metric: str = "exact"
    region: Box | None = None


def held_out(record: Record) -> HeldOut:
    """`record` up to its last assistant turn."""
    last = max(index for index, message in enumerate(record.messages) if message.role == "assistant")
    return HeldOut(record.messages[:last], record.messages[last], record.tools)


def serving(model: Qwen2VL, processor: Processor) -> VLM:
    """The model in training behind the front door that users take."""
    defaults = GenerationDefaults.from_json({}, model.config.tokens)
    return VLM("training", processor, Engine(model, defaults.stop_tokens), defaults.sampling)


def accuracy_on(samples: Sequence[Labelled], processor: Processor) -> Callable[[Qwen2VL], dict[str, float]]:
    """An evaluation for `run_stage`: the share of right answers by skill."""

    def measure(model: Qwen2VL) -> dict[str, float]:
        answers = replies(serving(model, processor), samples)
        scores: dict[str, list[float]] = {}
        for reply, sample in zip(answers, samples, strict=True):
            scores.setdefault(sample.skill, []).append(judge(reply, sample))
        return {f"right/{skill}": round(sum(values) / len(values), 4) for skill, values in scores.items()}

    return measure


def held_out_figures(
    examples: Callable[[], Iterable[Example]], records: Sequence[Record], processor: Processor
) -> Callable[[Qwen2VL], dict[str, float]]:
    """An evaluation for `run_stage`: loss a token on the examples, and exact answers to the first of the records."""
    right = accuracy_on([held_out(record) for record in records[:_MAX_ANSWERS]], processor) if records else None

    def measure(model: Qwen2VL) -> dict[str, float]:
        total, tokens = 0.0, 0
        for example in examples():
            total += next_token_loss(model, example).item()
            tokens += int(example.supervised.sum())
        figures = {"held_out_loss": round(total / tokens, 4)}
        return {**figures, **(right(model) if right else {})}

    return measure
