"""One sequence to learn from: its inputs, its supervised tokens, and cutting it without cutting a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from clearsight.inputs import ModelInputs, VisionPatches
from clearsight.messages import Image, Message, Part, Text, Video
from clearsight.processor import Processor
from clearsight.train.records import Record

FORMS = ("caption", "chat")


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence, or several packed. supervised: (T,) bool, the tokens that are learned.

    marks: (M, slots) what the merged tokens of its pictures show, to learn that too (train/sight.py); with no token
    supervised, that alone. reach: (M, 5) how far what they show reaches and what its line begins with, to learn that
    too, spots: (S, 3) what the coordinates in it come from, and words: (W, 4) where the words of its questions are
    printed (train/whereabouts.py).
    """

    inputs: ModelInputs
    supervised: Tensor
    marks: Tensor | None = None
    reach: Tensor | None = None
    spots: Tensor | None = None
    words: Tensor | None = None

    @property
    def tokens(self) -> int:
        return self.inputs.ids.shape[0]

    def weights(self, balance: float = 0.0) -> Tensor:
        """Of the supervised tokens, in order: each one of an answer of n weighs n ** -balance."""
        first = self.supervised & ~F.pad(self.supervised, (1, 0))[:-1]
        answer = first.cumsum(0)[self.supervised] - 1
        return answer.bincount().float()[answer] ** -balance

    def learned(self, balance: float = 0.0) -> Tensor:
        """(3,) how much is learned: the weight of the supervised tokens, the number of marks and of visual tokens."""
        marks = torch.zeros(()) if self.marks is None else (self.marks > 0).sum(dtype=torch.float32)
        return torch.stack([self.weights(balance).sum(), marks, torch.tensor(float(len(self.inputs.vision_slots())))])

    @property
    def patches(self) -> int:
        return sum(grid.patches for grid in self.inputs.vision.grids) if self.inputs.vision else 0


def check_form(form: str) -> None:
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it must be 'caption' or 'chat'")


def pack(examples: Sequence[Example]) -> Example:
    """Several in one row, equal lengths side by side: attention takes each run of them as one product."""
    ordered = sorted(examples, key=lambda example: (example.patches, example.inputs.lengths))
    marks = [e.marks for e in ordered if e.marks is not None]
    reach = [e.reach for e in ordered if e.reach is not None]
    begin, spots, words = 0, [], []
    for e in ordered:
        if e.spots is not None:
            spots.append(e.spots + torch.tensor([begin, 0, 0]))
        if e.words is not None:
            words.append(e.words + torch.tensor([begin, 0, 0, 0]))
        begin += e.tokens
    return Example(
        ModelInputs.pack([e.inputs for e in ordered]),
        torch.cat([e.supervised for e in ordered]),
        torch.cat(marks) if marks else None,
        torch.cat(reach) if reach else None,
        torch.cat(spots) if spots else None,
        torch.cat(words) if words else None,
    )


def encode_record(record: Record, processor: Processor, form: str) -> Example:
    """form "chat": assistant turns are learned. "caption": pictures and texts as they follow each other, without chat
    format, and every text is learned (facts, 7.2)."""
    if form == "caption":
        return Example(*processor.document_inputs(document(record.messages)))
    prepared = processor.prepare(record.messages, add_generation_prompt=False, tools=record.tools)
    return Example(prepared.inputs, prepared.supervised)


def document(messages: Sequence[Message]) -> list[Part]:
    """What the turns hold, without the system's."""
    kinds = (Text, Image, Video)
    return [part for m in messages if m.role != "system" for part in m.parts if isinstance(part, kinds)]


def cut_point(inputs: ModelInputs, limit: int, merge_size: int = 2) -> int:
    """How many tokens to keep, at most `limit`, so that no picture is cut: it stays whole with its marks or goes."""
    if inputs.vision is not None:
        for start, grid in zip(inputs.vision_starts, inputs.vision.grids, strict=True):
            opening, closing = start - 1, start + grid.tokens(merge_size)
            if opening < limit <= closing:
                return opening
    return min(limit, inputs.ids.shape[0])


def truncate(example: Example, limit: int, merge_size: int = 2) -> Example:
    """The first tokens of one sequence, at most `limit`, ending at a token of text or after a whole picture."""
    if example.tokens <= limit:
        return example
    inputs, length = example.inputs, cut_point(example.inputs, limit, merge_size)
    count = sum(start < length for start in inputs.vision_starts)
    vision = None
    if inputs.vision is not None and count:
        grids = inputs.vision.grids[:count]
        vision = VisionPatches(inputs.vision.pixels[: sum(grid.patches for grid in grids)], grids)
    cut = ModelInputs(
        inputs.ids[:length], inputs.positions[:, :length], (length,), vision, inputs.vision_starts[:count]
    )
    return Example(cut, example.supervised[:length])
