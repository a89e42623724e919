"""Seeing before words: the vision tower learns what stands in every patch of drawn pictures, from marks.

An official tower comes from picture-text pretraining (facts, 9); nano has none, and an answer tells a tower far less
about a picture than its marks do. The head that names things is thrown away afterwards.
"""

from __future__ import annotations

import random
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from clearsight.inputs import Grid, ModelInputs
from clearsight.messages import Image as Shown
from clearsight.messages import Message, Video
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.processor import Processor
from clearsight.train.example import Example, pack
from clearsight.train.worlds import draw
from clearsight.train.worlds.marks import TICK_BOX, Mark, marks_of
from clearsight.train.worlds.scene import COLOURS, SHAPES

# Other scripts have hundreds of characters: each goes by one of these, as its code falls, so most are told apart.
_OTHERS = tuple(f"another character {number}" for number in range(256))
NAMES = ("nothing", *_OTHERS, *map(chr, range(33, 127)), *SHAPES, *COLOURS, *TICK_BOX)
SLOTS = 3
"""So many names are asked for in one patch: letters narrower than a third of it are too small to read."""
KINDS = 2
"""What lies over a patch's middle, and what has its own middle in the patch: the second tells one from two alike."""

_NUMBER = {name: number for number, name in enumerate(NAMES)}
UNKNOWN = -100  # what cross_entropy leaves out
_MERGED = 2  # patches along the side of a merged token
# Most slots are empty; together they weigh about as much as the filled ones.
_EMPTY_WEIGHT = 0.1
_PER_TOKEN = _MERGED**2 * KINDS * SLOTS


def targets(marks: Iterable[Mark], grid: Grid, patch: int) -> Tensor:
    """(M, 4 * KINDS * SLOTS) numbers in NAMES: for each merged token of one picture its patches' marks.

    A patch has SLOTS for the marks that its middle lies within, which are taken to be no smaller than a patch, and
    SLOTS for those whose middle lies within it, both in the marks' order; of the second kind no mark is held twice.
    """
    held: list[list[list[int]]] = [[[] for _ in range(grid.w * KINDS)] for _ in range(grid.h)]
    half = patch / 2
    for mark in marks:
        across, down = max(mark.across, half), max(mark.down, half)
        numbers = [number_of(what) for what in mark.what]
        for row in _covered(mark.y, down, patch, grid.h):
            for column in _covered(mark.x, across, patch, grid.w):
                held[row][KINDS * column] += numbers
        row, column = int(mark.y // patch), int(mark.x // patch)
        if row in range(grid.h) and column in range(grid.w):
            held[row][KINDS * column + 1] += numbers
    filled = torch.tensor([[(cell + [0] * SLOTS)[:SLOTS] for cell in row] for row in held])
    cells = filled.view(grid.h // _MERGED, _MERGED, grid.w // _MERGED, _MERGED, KINDS * SLOTS)
    return cells.permute(0, 2, 1, 3, 4).reshape(-1, _PER_TOKEN)


def _covered(middle: float, reach: float, patch: int, count: int) -> range:
    """The patches along one side whose middles lie within `reach` of `middle`."""
    first = -int(-((middle - reach) / patch - 0.5) // 1)  # rounded up
    last = int(((middle + reach) / patch - 0.5) // 1)
    return range(max(0, first), min(count - 1, last) + 1)


def number_of(what: str) -> int:
    """Where `what` stands in NAMES. Accents are left to the words: a Latin letter counts as its base."""
    plain = unicodedata.normalize("NFD", what)[0] if len(what) == 1 else what
    return _NUMBER.get(plain) or _NUMBER[_OTHERS[zlib.crc32(what.encode()) % len(_OTHERS)]]


def encode_marks(picture: Image.Image, processor: Processor) -> Example:
    """A drawn picture and what its patches hold, to learn that alone."""
    inputs, supervised = processor.caption_inputs(picture, "")
    example = Example(inputs, torch.zeros_like(supervised))
    return with_marks(example, [Message("user", (Shown(picture),))], processor)


def with_marks(example: Example, messages: Sequence[Message], processor: Processor) -> Example:
    """The encoded `messages` with what is known of their pictures; unknown where one carries no marks."""
    found = [torch.empty(0, _PER_TOKEN, dtype=torch.long)]
    for grid, marks in marks_shown(messages, example.inputs, processor):
        if marks is None:
            found.append(torch.full((grid.tokens(_MERGED), _PER_TOKEN), UNKNOWN))
        else:
            found.append(targets(marks, grid, processor.config.vision.patch_size))
    return replace(example, marks=torch.cat(found))


def marks_shown(
    messages: Sequence[Message], inputs: ModelInputs, processor: Processor
) -> Iterator[tuple[Grid, tuple[Mark, ...] | None]]:
    """For each picture and each slot of time of a video of the encoded `messages` its grid and its marks.

    A slot shows the marks of its last frame. None: it carries none, or was resized, so that they lie elsewhere.
    """
    shown = [part for message in messages for part in message.parts if isinstance(part, (Shown, Video))]
    patch, together = processor.config.vision.patch_size, processor.config.vision.temporal_patch_size
    for part, grid in zip(shown, inputs.vision.grids if inputs.vision else (), strict=True):
        sources = part.source if isinstance(part.source, tuple) else (part.source,)
        frames = [frame for frame in sources if isinstance(frame, Image.Image)]
        known = -(-len(frames) // together) == grid.t and frames[0].size == (grid.w * patch, grid.h * patch)
        for slot in range(grid.t):
            last = min(together * (slot + 1), len(frames)) - 1
            yield Grid(1, grid.h, grid.w), marks_of(frames[last]) if known else None


def add_sight(model: Qwen2VL, seed: int) -> None:
    """Give the tower the head that names what a merged token shows."""
    head = nn.Linear(model.config.vision.out_dim, _PER_TOKEN * len(NAMES), device=model.device)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.copy_(0.02 * torch.randn(head.weight.shape, generator=generator))
        head.bias.zero_()
    model.visual.add_module("sight", head)


def remove_sight(model: Qwen2VL) -> None:
    del model.visual.sight


def sight_scores(model: Qwen2VL, seen_MD: Tensor) -> Tensor:
    """(M * 4 * KINDS * SLOTS, names) scores of what every slot holds."""
    return model.visual.get_submodule("sight")(seen_MD).view(-1, len(NAMES))


def sight_loss(model: Qwen2VL, seen_MD: Tensor, marks: Tensor) -> Tensor:
    """Weighted cross-entropy in float32 summed over all slots that something is known of."""
    scores = sight_scores(model, seen_MD).float()
    weight = torch.ones(len(NAMES), device=scores.device)
    weight[0] = _EMPTY_WEIGHT
    return F.cross_entropy(scores, marks.flatten().to(scores.device), weight, reduction="sum")


def sight_accuracy(model: Qwen2VL, processor: Processor, worlds: Sequence[str], count: int) -> dict[str, float]:
    """For each of `worlds`, the share of filled slots named right on `count` held-out pictures."""
    figures = {}
    for world in worlds:
        seeds = random.Random(f"sight {world}")
        pictures = [draw(world, seeds.getrandbits(60), "test").picture for _ in range(count)]
        batch = pack([encode_marks(picture, processor) for picture in pictures])
        assert batch.marks is not None
        assert batch.inputs.vision is not None
        found = sight_scores(model, model.encode_vision(batch.inputs.vision)).argmax(1).cpu() == batch.marks.flatten()
        figures[f"sight of {world}"] = round(found[batch.marks.flatten() > 0].float().mean().item(), 4)
    return figures
