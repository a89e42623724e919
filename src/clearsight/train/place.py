"""Knowing where: the language half learns where in its picture or video every visual token stands and how far from
there what it shows reaches.

The tower's rotary positions are relative (facts, 5.3), and the language half's turn a row by hundredths of a radian and
a column by less (facts, 6.4), so a small model finds places out of the order of tokens, if at all. Told where each
token stands, it has the place at hand where it attends to what is there; and a box is four places. In a video it is
told when, too. The head that tells is thrown away afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearsight.inputs import ModelInputs
from clearsight.messages import Message
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.processor import Processor
from clearsight.train.example import Example
from clearsight.train.sight import UNKNOWN, marks_shown
from clearsight.train.worlds.marks import Mark

MOST = 16
"""Slots of time, rows and columns that are told apart; what stands further on counts as the last."""
STEPS = 48
"""So many steps of an eighth of a token an edge may lie from its token's corner; what is further off counts as the end.

A share of the picture's width would be closer to a box's numbers (facts, 7.3), but tokens come before the last column.
"""
BEFORE = 20
"""So many of them lie to the left of or above the corner."""

_PARTS = 8  # of a token's side

_AXES = 3
_EDGES = 4
_LAYERS = 2  # of the language half, after which the place is known: those that follow can attend to it
_HEAD = "place"


def targets(inputs: ModelInputs, merge_size: int = 2) -> Tensor:
    """(3, M) int64: slot of time, row and column of each merged token in its picture or video, from 0 to MOST - 1."""
    assert inputs.vision is not None
    lengths = torch.tensor([grid.tokens(merge_size) for grid in inputs.vision.grids])
    firsts = torch.tensor(inputs.vision_starts).repeat_interleave(lengths)
    offsets = inputs.positions[:, inputs.vision_slots(merge_size)] - inputs.positions[:, firsts]
    return offsets.clamp(max=MOST - 1)


def with_reach(example: Example, messages: Sequence[Message], processor: Processor) -> Example:
    """The encoded `messages` with how far what their pictures show reaches; unknown where one carries no marks."""
    merge, patch = processor.config.vision.merge_size, processor.config.vision.patch_size
    found = [torch.empty(0, _EDGES, dtype=torch.long)]
    for grid, marks in marks_shown(messages, example.inputs, processor):
        if marks is None:
            found.append(torch.full((grid.tokens(merge), _EDGES), UNKNOWN))
        else:
            found.append(reaches(marks, grid.h // merge, grid.w // merge, merge * patch))
    return replace(example, reach=torch.cat(found))


def reaches(marks: Iterable[Mark], rows: int, columns: int, cell: int) -> Tensor:
    """(rows * columns, 4) int64: for each cell, `cell` pixels wide and high, in which of STEPS from its upper left
    corner lie the left, top, right and bottom edge of all marks whose middles it holds; unknown if there are none.
    """
    held: dict[tuple[int, int], list[Mark]] = defaultdict(list)
    for mark in marks:
        held[int(mark.y // cell), int(mark.x // cell)].append(mark)
    found = torch.full((rows, columns, _EDGES), UNKNOWN)
    for (row, column), inside in held.items():
        if row in range(rows) and column in range(columns):
            edges = (
                min(mark.x - mark.across for mark in inside) / cell - column,
                min(mark.y - mark.down for mark in inside) / cell - row,
                max(mark.x + mark.across for mark in inside) / cell - column,
                max(mark.y + mark.down for mark in inside) / cell - row,
            )
            steps = torch.tensor(edges).mul(_PARTS).floor().long() + BEFORE
            found[row, column] = steps.clamp(0, STEPS - 1)
    return found.view(-1, _EDGES)


def add_place(model: Qwen2VL) -> None:
    """Give the language half the head that tells slot, row, column and edges; at first it says nothing."""
    head = nn.Linear(model.config.text.hidden_size, _AXES * MOST + _EDGES * STEPS, device=model.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model.model.add_module(_HEAD, head)


def remove_place(model: Qwen2VL) -> None:
    delattr(model.model, _HEAD)


@contextmanager
def place_losses(model: Qwen2VL, inputs: ModelInputs, reach: Tensor | None = None) -> Iterator[list[Tensor]]:
    """For one forward pass of `inputs`: it adds to the list the cross-entropy of slot, row and column and, where
    `reach` knows them, the mean one of the edges, in float32, summed over all visual tokens; nothing where there are
    none or the model has no such head."""
    found: list[Tensor] = []
    head = dict(model.model.named_children()).get(_HEAD)
    if head is None or inputs.vision is None:
        yield found
        return

    def judge(_layer: nn.Module, _given: object, hidden_TD: Tensor) -> None:
        merge = model.config.vision.merge_size
        seen_MD = hidden_TD[inputs.vision_slots(merge).to(hidden_TD.device)].float()
        scores = head(F.rms_norm(seen_MD, seen_MD.shape[-1:])).float()
        places, edges = scores[:, : _AXES * MOST], scores[:, _AXES * MOST :]
        wanted = targets(inputs, merge).T.flatten().to(scores.device)  # the axes in turn
        found.append(F.cross_entropy(places.reshape(-1, MOST), wanted, reduction="sum"))
        if reach is not None:
            known = reach.flatten().to(scores.device)
            found.append(
                F.cross_entropy(edges.reshape(-1, STEPS), known, reduction="sum", ignore_index=UNKNOWN) / _EDGES
            )

    hook = model.model.layers[_LAYERS - 1].register_forward_hook(judge)
    try:
        yield found
    finally:
        hook.remove()
