"""What is trained on, by number: drawn worlds or a user's data, handed over by worker processes.

Batch n of a stream is a pure function of n, so a resumed run repeats nothing and leaves nothing out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from clearsight.messages import Message, Text
from clearsight.processor import Processor
from clearsight.train.example import Example, check_form, pack
from clearsight.train.sight import encode_marks, with_marks
from clearsight.train.whereabouts import with_places
from clearsight.train.worlds import Sample, draw

_CAPTIONED = frozenset({"word", "line", "scripts"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Which worlds a batch draws from, by weight, and how.

    form: "caption", picture-text pairs, or "chat", dialogue (facts, 9), or "marks", pictures with what their patches
    show. level_start..level_end: difficulty at the first and from the `ramp`-th batch on, rising linearly between.
    turns: up to so many questions about one picture, where a world has them. single: the share of pictures with one
    question alone, or what comes late in dialogues is learned only after what comes early. captions: in dialogue, the
    share of words, lines and other scripts that come as picture-text pairs, which teach the same reading in half the
    tokens. casual: the share of dialogues whose questions are typed as people type. sight: what the patches show is
    learned beside the words and weighs so much of what an answer does. place: so much weighs when and where each
    visual token is, how far what it shows reaches and what its line begins with, how large its picture is, what a
    coordinate comes from, and where a word that is asked about is printed.
    """

    weights: dict[str, float]
    form: str
    level_start: float = 1.0
    level_end: float = 1.0
    ramp: int = 1
    turns: int = 1
    single: float = 0.0
    captions: float = 0.0
    casual: float = 0.0
    sight: float = 0.0
    place: float = 0.0

    def __post_init__(self) -> None:
        for name in ("single", "captions", "casual"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        for name in ("sight", "place"):
            if not 0 <= getattr(self, name) <= 1000:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1000")
        if self.form != "marks":
            check_form(self.form)

    @property
    def objective(self) -> tuple[float, float, float]:
        """What the mean losses of supervised tokens, of marks and of places weigh."""
        return (0.0, 1.0, 0.0) if self.form == "marks" else (1.0, self.sight, self.place)

    def level(self, index: int) -> float:
        return self.level_start + (self.level_end - self.level_start) * min(1.0, index / self.ramp)


_BEFORE = ("please ", "hi, ", "hello! ", "can you help me? ", "ok, ", "so ")
_AFTER = (" please", ", please", " thanks", " thank you!")


def casual(messages: Sequence[Message], rng: random.Random) -> tuple[Message, ...]:
    """The same dialogue with each question typed as people type: without its capital, its last mark, or with a word
    of politeness. What is asked stays."""
    return tuple(_typed(message, rng) if message.role == "user" else message for message in messages)


def _typed(message: Message, rng: random.Random) -> Message:
    *others, last = message.parts
    if not isinstance(last, Text) or not last.text:
        return message
    text = last.text
    if rng.random() < 0.6 and not text.startswith("I "):
        text = text[0].lower() + text[1:]
    if rng.random() < 0.5:
        text = text.rstrip(".?")
    if rng.random() < 0.25:
        text = rng.choice(_BEFORE) + text
    elif rng.random() < 0.15:
        text = text.rstrip(".?") + rng.choice(_AFTER)
    return replace(message, parts=(*others, Text(text)))


class Stream(Protocol):
    """Batches by number. identity: differs for streams that differ."""

    @property
    def identity(self) -> str: ...
    def __getitem__(self, number: int, /) -> Example: ...


def encode(sample: Sample, processor: Processor, form: str) -> Example:
    """One sample as model inputs with its supervised tokens marked.

    form "marks": the only picture and what its patches show; "caption": the only picture and the words of the judged
    turn; "chat": the whole conversation.
    """
    if form == "marks":
        return encode_marks(sample.picture, processor)
    if form == "caption":
        return Example(*processor.caption_inputs(sample.picture, sample.answer))
    prepared = processor.prepare(sample.messages, add_generation_prompt=False, tools=sample.tools)
    return Example(prepared.inputs, prepared.supervised)


class BatchStream:
    """Batches of `batch_size` samples, drawn where they are asked for, each divided in `parts` smaller ones.

    Batch b is numbers b * parts to (b + 1) * parts - 1: the same samples however many parts it has.
    """

    def __init__(self, processor: Processor, mix: Mix, batch_size: int, seed: int, parts: int = 1) -> None:
        if batch_size < parts:
            raise ValueError(f"batch_size is {batch_size}; {parts} parts need at least one sample each")
        self.processor, self.mix, self.batch_size, self.seed, self.parts = processor, mix, batch_size, seed, parts

    @property
    def identity(self) -> str:
        return repr((self.mix, self.batch_size, self.seed))

    def __getitem__(self, number: int) -> Example:
        torch.set_num_threads(1)
        batch, part = divmod(number, self.parts)
        return pack([self._example(batch, slot) for slot in range(part, self.batch_size, self.parts)])

    def _example(self, batch: int, slot: int) -> Example:
        """Sample `slot` of a batch, the same whichever process draws it."""
        rng = random.Random(f"{self.seed}/{batch}/{slot}")
        names, weights = list(self.mix.weights), list(self.mix.weights.values())
        while True:
            world = rng.choices(names, weights)[0]
            turns = 1 if self.mix.single and rng.random() < self.mix.single else self.mix.turns
            sample = draw(world, rng.getrandbits(60), "train", self.mix.level(batch), turns)
            form = self.mix.form
            if form == "chat" and world in _CAPTIONED and rng.random() < self.mix.captions:
                form = "caption"
            # A picture-text pair has no question, so an answer that hangs on one cannot be learned from it.
            if form != "caption" or sample.skill != "honesty":
                if form == "chat" and rng.random() < self.mix.casual:
                    sample = replace(sample, messages=casual(sample.messages, rng))
                example = encode(sample, self.processor, form)
                if self.mix.sight:
                    example = with_marks(example, sample.messages, self.processor)
                return with_places(example, sample.messages, self.processor) if self.mix.place else example


def batches(stream: Stream, numbers: Sequence[int], workers: int) -> Iterator[Example]:
    """The numbered batches in order, made ahead by worker processes."""
    loader: DataLoader[Any] = DataLoader(
        stream,  # type: ignore[arg-type]  # anything with __getitem__ will do
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    yield from loader
