"""Knowing where: the language half learns where in its picture or video every visual token stands, how far from there
what it shows reaches, what the line of text begins with that it shows a part of, and, at a picture's end, its size.

The tower's rotary positions are relative (facts, 5.3), and the language half's turn a row by hundredths of a radian and
a column by less (facts, 6.4), so a small model finds places out of the order of tokens, if at all. Told where each
token stands, it has the place at hand where it attends to what is there; and a box is four places. In a video it is
told when, too. How many rows and columns there are, which a box's numbers are shares of, is known once the picture is
over, so the token that closes it is told. A row's name is read before its other cells and cannot know of them, so these
are told how the name begins, for whoever asks for it by one of them. And a coordinate is a division: the token before
its first digit is told what is divided, in eighths of a token, and by how many tokens, two layers before it has to say
the digit. Counting is looking for the last of a kind where each token with a shape knows the how manieth of its kind it
is, so it is told. The heads that tell are thrown away afterwards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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
from clearsight.processor.chat import BOX_END, BOX_START
from clearsight.train.example import Example
from clearsight.train.sight import NAMES, UNKNOWN, marks_shown, number_of
from clearsight.train.worlds.marks import Mark
from clearsight.train.worlds.scene import SHAPES

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
_TALLIES = 4
_KNOWN = _EDGES + 1 + _TALLIES  # of what a token shows
_LAYERS = 2  # of the language half, after which the place is known: those that follow can attend to it
_LATE_LAYERS = 3  # and after which, by the place, what the line begins with and where the last token stood
_HEAD = "place"
_LINE_HEAD = "line"
_SIZE_HEAD = "size"
_TALLY_HEAD = "tally"
_SPOT_LAYERS = 4  # and after which what is to be divided by that size
_SPOT_HEAD = "spot"
_SPOT_WEIGHT = 8.0


def targets(inputs: ModelInputs, merge_size: int = 2) -> Tensor:
    """(3, M) int64: slot of time, row and column of each merged token in its picture or video, from 0 to MOST - 1."""
    assert inputs.vision is not None
    lengths = torch.tensor([grid.tokens(merge_size) for grid in inputs.vision.grids])
    firsts = torch.tensor(inputs.vision_starts).repeat_interleave(lengths)
    offsets = inputs.positions[:, inputs.vision_slots(merge_size)] - inputs.positions[:, firsts]
    return offsets.clamp(max=MOST - 1)


def sizes(inputs: ModelInputs, merge_size: int = 2) -> Tensor:
    """(2, N) int64: rows and columns of merged tokens of each picture or video, MOST at most, from 0 for the first."""
    assert inputs.vision is not None
    sides = torch.tensor([(grid.h // merge_size, grid.w // merge_size) for grid in inputs.vision.grids]).T
    return (sides - 1).clamp(max=MOST - 1)


def with_places(example: Example, messages: Sequence[Message], processor: Processor) -> Example:
    """The encoded `messages` with how far what their pictures show reaches, what lines begin with and the how manieth
    each shape is, unknown where one carries no marks, and with what their coordinates come from."""
    merge, patch = processor.config.vision.merge_size, processor.config.vision.patch_size
    found = [torch.empty(0, _KNOWN, dtype=torch.long)]
    for grid, marks in marks_shown(messages, example.inputs, processor):
        if marks is None:
            found.append(torch.full((grid.tokens(merge), _KNOWN), UNKNOWN))
        else:
            where = grid.h // merge, grid.w // merge, merge * patch
            each = reaches(marks, *where), beginnings(marks, *where)[:, None], tallies(marks, *where)
            found.append(torch.cat(each, dim=1))
    return replace(example, reach=torch.cat(found), spots=spots(example, processor))


def spots(example: Example, processor: Processor) -> Tensor:
    """(S, 3) int64: for each supervised number of a box or point in a sequence about one picture, the token before it,
    how many eighths of a merged token it is from the picture's upper left corner, and the number of tokens along
    that side, from 0 for the first as in `sizes`; of what lies further off or is longer, the most that is told.
    """
    found: list[list[int]] = []
    vision, merge = example.inputs.vision, processor.config.vision.merge_size
    if vision is not None and len(vision.grids) == 1 and vision.grids[0].t == 1:
        sides = vision.grids[0].w // merge, vision.grids[0].h // merge
        for index, axis, value in _numbers(example, processor):
            step = min(_PARTS * MOST - 1, value * _PARTS * sides[axis] // 1000)
            found.append([index - 1, step, min(MOST, sides[axis]) - 1])
    return torch.tensor(found, dtype=torch.long).view(-1, 3)


def _numbers(example: Example, processor: Processor) -> Iterator[tuple[int, int, int]]:
    """Of each supervised number between the signs of a box or point: the index of its first digit, 0 for x or 1 for y,
    and its value. Digits are tokens of their own (facts, 7.3)."""
    tokenizer = processor.tokenizer
    opening, closing = (tokenizer.special_ids[sign] for sign in (BOX_START, BOX_END))
    digits = {tokenizer.encode(digit)[0]: digit for digit in "0123456789"}
    inside, count, number = False, 0, ""
    for index, (token, wanted) in enumerate(zip(example.inputs.ids.tolist(), example.supervised.tolist(), strict=True)):
        if inside and token in digits:
            number += digits[token]
        elif number:
            if wanted:
                yield index - len(number), count % 2, int(number)
            count, number = count + 1, ""
        if token in (opening, closing):
            inside, count = token == opening, 0


def reaches(marks: Iterable[Mark], rows: int, columns: int, cell: int) -> Tensor:
    """(rows * columns, 4) int64: for each cell, `cell` pixels wide and high, in which of STEPS from its upper left
    corner lie the left, top, right and bottom edge of all marks whose middles it holds; unknown if there are none.
    """
    found = torch.full((rows, columns, _EDGES), UNKNOWN)
    for (row, column), inside in _held(marks, rows, columns, cell).items():
        edges = (
            min(mark.x - mark.across for mark in inside) / cell - column,
            min(mark.y - mark.down for mark in inside) / cell - row,
            max(mark.x + mark.across for mark in inside) / cell - column,
            max(mark.y + mark.down for mark in inside) / cell - row,
        )
        steps = torch.tensor(edges).mul(_PARTS).floor().long() + BEFORE
        found[row, column] = steps.clamp(0, STEPS - 1)
    return found.view(-1, _EDGES)


def beginnings(marks: Iterable[Mark], rows: int, columns: int, cell: int) -> Tensor:
    """(rows * columns,) int64 numbers in NAMES: for each cell with the middle of a character the first of its line,
    which is the one furthest left at about the height of the cell's last; unknown if there is none."""
    characters = [mark for mark in marks if len(mark.what[0]) == 1]
    found = torch.full((rows, columns), UNKNOWN)
    for at, (*_, last) in _held(characters, rows, columns, cell).items():
        line = (mark for mark in characters if abs(mark.y - last.y) <= last.down)
        found[at] = number_of(min(line, key=lambda mark: mark.x).what[0])
    return found.flatten()


def tallies(marks: Iterable[Mark], rows: int, columns: int, cell: int) -> Tensor:
    """(rows * columns, 4) int64: for each cell with the middle of a shape how many shapes have theirs in it or in a
    cell before it, row by row: in all, of the name of its last shape, of that one's colour, and of both, MOST - 1 at
    most; unknown if it holds none."""
    shapes = [mark for mark in marks if mark.what[0] in SHAPES]
    found = torch.full((rows, columns, _TALLIES), UNKNOWN)
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for at, inside in sorted(_held(shapes, rows, columns, cell).items()):
        for mark in inside:
            name, colour = mark.what
            kinds = (None, None), (name, None), (None, colour), (name, colour)
            counts.update(kinds)
        found[at] = torch.tensor([min(MOST - 1, counts[kind]) for kind in kinds])
    return found.view(-1, _TALLIES)


def _held(marks: Iterable[Mark], rows: int, columns: int, cell: int) -> dict[tuple[int, int], list[Mark]]:
    """By row and column, the marks whose middles lie there."""
    held: dict[tuple[int, int], list[Mark]] = defaultdict(list)
    for mark in marks:
        row, column = int(mark.y // cell), int(mark.x // cell)
        if row in range(rows) and column in range(columns):
            held[row, column].append(mark)
    return held


def add_place(model: Qwen2VL) -> None:
    """Give the language half the heads that tell all this; at first they say nothing."""
    for name, answers in _answers().items():
        head = nn.Linear(model.config.text.hidden_size, answers, device=model.device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        model.model.add_module(name, head)


def _answers() -> dict[str, int]:
    """How many each head chooses from, some between several kinds at once."""
    return {
        _HEAD: _AXES * MOST + _EDGES * STEPS,
        _LINE_HEAD: len(NAMES),
        _SIZE_HEAD: 2 * MOST,
        _TALLY_HEAD: _TALLIES * MOST,
        _SPOT_HEAD: (_PARTS + 1) * MOST,
    }


def remove_place(model: Qwen2VL) -> None:
    for name in _answers():
        delattr(model.model, name)


@contextmanager
def place_losses(model: Qwen2VL, batch: Example) -> Iterator[list[Tensor]]:
    """For one forward pass of `batch`: it adds to the list the cross-entropy of slot, row and column and, where
    `reach` knows them, the mean one of the edges and those of the line's beginning and of the four counts, in float32,
    summed over all visual tokens; the mean one of a picture's rows and columns, which weighs as much as all of its
    tokens do; and, where `spots` knows them, those of what is divided and by what, which weigh as much as eight tokens.
    Nothing where there are no visual tokens or the model has no such heads."""
    inputs, reach, spots = batch.inputs, batch.reach, batch.spots
    found: list[Tensor] = []
    heads = dict(model.model.named_children())
    if _HEAD not in heads or inputs.vision is None:
        yield found
        return
    merge = model.config.vision.merge_size

    seen = inputs.vision_slots(merge)
    lengths = torch.tensor([grid.tokens(merge) for grid in inputs.vision.grids])
    ends = torch.tensor(inputs.vision_starts) + lengths  # the closing tokens, which follow all that is seen

    def scores(name: str, hidden_TD: Tensor, where: Tensor) -> Tensor:
        chosen_MD = hidden_TD[where.to(hidden_TD.device)].float()
        return heads[name](F.rms_norm(chosen_MD, chosen_MD.shape[-1:])).float()

    def judge_place(_layer: nn.Module, _given: object, hidden_TD: Tensor) -> None:
        told = scores(_HEAD, hidden_TD, seen)
        places, edges = told[:, : _AXES * MOST], told[:, _AXES * MOST :]
        wanted = targets(inputs, merge).T.flatten().to(told.device)  # the axes in turn
        found.append(F.cross_entropy(places.reshape(-1, MOST), wanted, reduction="sum"))
        if reach is not None:
            found.append(_known(edges.reshape(-1, STEPS), reach[:, :_EDGES]) / _EDGES)

    def judge_late(_layer: nn.Module, _given: object, hidden_TD: Tensor) -> None:
        if reach is not None:
            found.append(_known(scores(_LINE_HEAD, hidden_TD, seen), reach[:, _EDGES]))
            counted = scores(_TALLY_HEAD, hidden_TD, seen).reshape(-1, MOST)
            found.append(_known(counted, reach[:, _EDGES + 1 :]))
        told = scores(_SIZE_HEAD, hidden_TD, ends).view(-1, MOST)
        wanted = sizes(inputs, merge).T.flatten().to(told.device)
        each = F.cross_entropy(told, wanted, reduction="none").view(-1, 2).mean(1)
        found.append(each @ lengths.to(each))  # a picture's size weighs as all of its tokens

    def judge_spots(_layer: nn.Module, _given: object, hidden_TD: Tensor) -> None:
        if spots is not None:
            told, wanted = scores(_SPOT_HEAD, hidden_TD, spots[:, 0]), spots[:, 1:].to(hidden_TD.device)
            steps, size = told[:, : _PARTS * MOST], told[:, _PARTS * MOST :]
            found.append(_SPOT_WEIGHT * (_known(steps, wanted[:, 0]) + _known(size, wanted[:, 1])))

    judges = {_LAYERS: judge_place, _LATE_LAYERS: judge_late, _SPOT_LAYERS: judge_spots}
    hooks = [model.model.layers[:layers][-1].register_forward_hook(judge) for layers, judge in judges.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _known(scores: Tensor, wanted: Tensor) -> Tensor:
    return F.cross_entropy(scores, wanted.flatten().to(scores.device), reduction="sum", ignore_index=UNKNOWN)
