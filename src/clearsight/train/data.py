"""Drawn samples as packed batches. Batch i is a pure function of (recipe, i), so a resumed run repeats nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clearsight.inputs import ModelInputs
from clearsight.processor import Processor
from clearsight.train.worlds import Sample, draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Which worlds a batch draws from, by weight, and how: as picture-text pairs or as dialogue (facts, 9).

    level_start..level_end: difficulty at the first and from the `ramp`-th batch on, rising linearly between.
    """

    weights: dict[str, float]
    form: str
    level_start: float = 1.0
    level_end: float = 1.0
    ramp: int = 1

    def __post_init__(self) -> None:
        if self.form not in ("caption", "chat"):
            raise ValueError(f"form is {self.form!r}; it must be 'caption' or 'chat'")

    def level(self, index: int) -> float:
        return self.level_start + (self.level_end - self.level_start) * min(1.0, index / self.ramp)


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed sequences and which of their tokens are learned: supervised is (T,) bool."""

    inputs: ModelInputs
    supervised: Tensor


def encode(sample: Sample, processor: Processor, form: str) -> tuple[ModelInputs, Tensor]:
    """One sample as model inputs with its supervised tokens marked.

    form "caption": the only picture and the words of the judged turn; "chat": the whole conversation.
    """
    if form == "caption":
        return processor.caption_inputs(sample.picture, sample.answer)
    prepared = processor.prepare(sample.messages, add_generation_prompt=False, tools=sample.tools)
    return prepared.inputs, prepared.supervised


class BatchStream(Dataset[Batch]):
    """Batches by number, drawn where they are asked for (in the loader's worker processes).

    `part` is (rank, size): of `size` processes that share every batch, number `rank` draws each size-th sample.
    """

    def __init__(
        self, processor: Processor, mix: Mix, batch_size: int, seed: int, part: tuple[int, int] = (0, 1)
    ) -> None:
        if batch_size < part[1]:
            raise ValueError(f"batch_size is {batch_size}; {part[1]} processes need at least one sample each")
        self.processor, self.mix, self.batch_size, self.seed, self.part = processor, mix, batch_size, seed, part

    def __getitem__(self, index: int) -> Batch:
        torch.set_num_threads(1)
        rank, size = self.part
        examples = [self._example(index, slot) for slot in range(rank, self.batch_size, size)]
        # Equal lengths side by side: attention takes each run of them as one product.
        examples.sort(key=lambda example: (_picture_size(example[0]), example[0].lengths))
        return Batch(ModelInputs.pack([e[0] for e in examples]), torch.cat([e[1] for e in examples]))

    def _example(self, index: int, slot: int) -> tuple[ModelInputs, Tensor]:
        """Sample `slot` of batch `index`, the same whichever process draws it."""
        rng = random.Random(f"{self.seed}/{index}/{slot}")
        names, weights = list(self.mix.weights), list(self.mix.weights.values())
        while True:
            world = rng.choices(names, weights)[0]
            sample = draw(world, rng.getrandbits(60), "train", self.mix.level(index))
            # A picture-text pair has no question, so an answer that hangs on one cannot be learned from it.
            if self.mix.form == "chat" or sample.skill != "honesty":
                return encode(sample, self.processor, self.mix.form)


def _picture_size(inputs: ModelInputs) -> int:
    return sum(grid.patches for grid in inputs.vision.grids) if inputs.vision else 0


def batches(stream: BatchStream, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Batches start..stop-1 in order, drawn ahead by worker processes."""
    loader: DataLoader[Batch] = DataLoader(
        stream,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    yield from loader
