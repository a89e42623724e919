"""What is known of where things are in drawn pictures, as numbers to learn: for every visual token, every coordinate in
an answer, and every word of a question that is printed in the picture."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from clearsight.inputs import Grid, ModelInputs
from clearsight.messages import Message
from clearsight.processor import Processor
from clearsight.processor.chat import BOX_END, BOX_START
from clearsight.train.example import Example
from clearsight.train.sight import UNKNOWN, marks_shown, number_of
from clearsight.train.worlds.marks import Mark

MOST = 16
"""Slots of time, rows and columns that are told apart; what stands further on counts as the last."""
PARTS = 8
"""Of a token's side, to which an edge is told."""
STEPS = 48
"""So many parts an edge may lie from its token's corner; what is further off counts as the end.

A share of the picture's width would be closer to a box's numbers (facts, 7.3), but tokens come before the last column.
"""
BEFORE = 20
"""So many of them lie to the left of or above the corner."""
EDGES = 4

_SHOWN = EDGES + 1  # numbers about what a token shows
_SIGNS = ".,:;?!'\"()$€"  # around a word


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
    """The encoded `messages` with how far what their pictures show reaches and what lines begin with, unknown where
    one carries no marks, with what their coordinates come from, and where the words of their questions are printed."""
    merge, patch = processor.config.vision.merge_size, processor.config.vision.patch_size
    found = [torch.empty(0, _SHOWN, dtype=torch.long)]
    for grid, marks in marks_shown(messages, example.inputs, processor):
        if marks is None:
            found.append(torch.full((grid.tokens(merge), _SHOWN), UNKNOWN))
        else:
            where = grid.h // merge, grid.w // merge, merge * patch
            each = reaches(marks, *where), beginnings(marks, *where)[:, None]
            found.append(torch.cat(each, dim=1))
    coordinates, asked = spots(example, processor), words(example, messages, processor)
    return replace(example, reach=torch.cat(found), spots=coordinates, words=asked)


def spots(example: Example, processor: Processor) -> Tensor:
    """(S, 3) int64: for each supervised number of a box or point in a sequence about one picture, the token before it,
    how many eighths of a merged token it is from the picture's upper left corner, and the number of tokens along
    that side, from 0 for the first as in `sizes`; of what lies further off or is longer, the most that is told.
    """
    found: list[list[int]] = []
    merge = processor.config.vision.merge_size
    if grid := _only_picture(example):
        sides = grid.w // merge, grid.h // merge
        for index, axis, value in _numbers(example, processor):
            step = min(PARTS * MOST - 1, value * PARTS * sides[axis] // 1000)
            found.append([index - 1, step, min(MOST, sides[axis]) - 1])
    return torch.tensor(found, dtype=torch.long).view(-1, 3)


def _only_picture(example: Example) -> Grid | None:
    """The patches of the one picture that a sequence is about, if it is about one."""
    grids = example.inputs.vision.grids if example.inputs.vision else ()
    return grids[0] if len(grids) == 1 and grids[0].t == 1 else None


def _numbers(example: Example, processor: Processor) -> Iterator[tuple[int, int, int]]:
    """Of each supervised number between the signs of a box or point: the index of its first digit, 0 for x or 1 for y,
    and its value. They come in pairs, and digits are tokens of their own (facts, 7.3)."""
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
            inside = token == opening


def words(example: Example, messages: Sequence[Message], processor: Processor) -> Tensor:
    """(W, 4) int64: for each word of a question about one picture that is printed there once, in any case, its last
    token, row and column of the merged token with its first character, and what the line there begins with, a number
    in NAMES."""
    found: list[list[int]] = []
    merge, patch = processor.config.vision.merge_size, processor.config.vision.patch_size
    if grid := _only_picture(example):
        ((_, marks),) = marks_shown(messages, example.inputs, processor)
        rows, columns, cell = grid.h // merge, grid.w // merge, merge * patch
        printed = _printed(marks or ())
        begun = beginnings(marks or (), rows, columns, cell).view(rows, columns)
        for last, word in _asked(example, processor):
            at = [(int(mark.y // cell), int(mark.x // cell)) for mark in printed.get(word, ())]
            if len(at) == 1 and at[0][0] in range(rows) and at[0][1] in range(columns):
                found.append([last, *(min(MOST - 1, side) for side in at[0]), int(begun[at[0]])])
    return torch.tensor(found, dtype=torch.long).view(-1, 4)


def _printed(marks: Iterable[Mark]) -> dict[str, list[Mark]]:
    """By word, in small letters and without signs around it, the first characters of where it is printed."""
    runs: list[list[Mark]] = []
    for mark in marks:
        if len(mark.what[0]) == 1:
            before = runs[-1][-1] if runs else None
            gap = mark.x - mark.across - before.x - before.across if before else 0.0
            # Characters of a word touch; a space is about a quarter of the font's size and `down` is 0.6 of that.
            if before and abs(mark.y - before.y) <= mark.down / 2 and abs(gap) <= mark.down / 4:
                runs[-1].append(mark)
            else:
                runs.append([mark])
    printed: dict[str, list[Mark]] = defaultdict(list)
    for run in runs:
        printed["".join(mark.what[0] for mark in run).strip(_SIGNS).lower()].append(run[0])
    return printed


def _asked(example: Example, processor: Processor) -> Iterator[tuple[int, str]]:
    """The words of what follows the picture and is not learned, each as in `_printed`, with its last token."""
    tokenizer, special = processor.tokenizer, set(processor.tokenizer.special_ids.values())
    ids, learned = example.inputs.ids.tolist(), example.supervised.tolist()
    text, tokens = "", list[int]()
    for index in range(example.inputs.vision_starts[0], len(ids) + 1):
        if index == len(ids) or learned[index] or ids[index] in special:
            for found in re.finditer(r"\S+", text):
                word = found[0].strip(_SIGNS)
                if word:
                    yield tokens[found.start() + found[0].index(word) + len(word) - 1], word.lower()
            text, tokens = "", []
        else:
            piece = tokenizer.token_bytes(ids[index]).decode("latin-1")
            text, tokens = text + piece, tokens + [index] * len(piece)


def reaches(marks: Iterable[Mark], rows: int, columns: int, cell: int) -> Tensor:
    """(rows * columns, 4) int64: for each cell, `cell` pixels wide and high, in which of STEPS from its upper left
    corner lie the left, top, right and bottom edge of all marks whose middles it holds; unknown if there are none.
    """
    found = torch.full((rows, columns, EDGES), UNKNOWN)
    for (row, column), inside in _held(marks, rows, columns, cell).items():
        edges = (
            min(mark.x - mark.across for mark in inside) / cell - column,
            min(mark.y - mark.down for mark in inside) / cell - row,
            max(mark.x + mark.across for mark in inside) / cell - column,
            max(mark.y + mark.down for mark in inside) / cell - row,
        )
        steps = torch.tensor(edges).mul(PARTS).floor().long() + BEFORE
        found[row, column] = steps.clamp(0, STEPS - 1)
    return found.view(-1, EDGES)


def beginnings(marks: Iterable[Mark], rows: int, columns: int, cell: int) -> Tensor:
    """(rows * columns,) int64 numbers in NAMES: for each cell with the middle of a character the first of its line,
    which is the one furthest left at about the height of the cell's last; unknown if there is none."""
    characters = [mark for mark in marks if len(mark.what[0]) == 1]
    found = torch.full((rows, columns), UNKNOWN)
    for at, (*_, last) in _held(characters, rows, columns, cell).items():
        line = (mark for mark in characters if abs(mark.y - last.y) <= last.down)
        found[at] = number_of(min(line, key=lambda mark: mark.x).what[0])
    return found.flatten()


def _held(marks: Iterable[Mark], rows: int, columns: int, cell: int) -> dict[tuple[int, int], list[Mark]]:
    """By row and column, the marks whose middles lie there."""
    held: dict[tuple[int, int], list[Mark]] = defaultdict(list)
    for mark in marks:
        row, column = int(mark.y // cell), int(mark.x // cell)
        if row in range(rows) and column in range(columns):
            held[row, column].append(mark)
    return held
