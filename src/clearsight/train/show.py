"""A sample as the model sees it, for people: its text with the tokens divided and the learned part marked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from clearsight.processor import Tokenizer
from clearsight.train.example import Example

# Marks for terminals without colours; those that have them show green.
_OPEN, _CLOSE = "«", "»"
_GREEN, _PLAIN = "\033[32m", "\033[0m"
_DIVIDER = "·"
_LONGEST = 2000


def show_tokens(example: Example, tokenizer: Tokenizer, *, colour: bool = False, merge_size: int = 2) -> str:
    """Tokens divided by a dot, runs of picture tokens as one word, and what is learned between « and » (or green)."""
    marks = (_GREEN, _PLAIN) if colour else (_OPEN, _CLOSE)
    pieces = list(_pieces(example, tokenizer, merge_size))
    runs = ((learned, _DIVIDER.join(text for text, _ in run)) for learned, run in groupby(pieces, lambda item: item[1]))
    shown = "".join(marks[0] + text + marks[1] if learned else text for learned, text in runs)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}{_PLAIN if colour else ''} ..."


def _pieces(example: Example, tokenizer: Tokenizer, merge_size: int) -> Iterator[tuple[str, bool]]:
    inputs = example.inputs
    grids = dict(zip(inputs.vision_starts, inputs.vision.grids if inputs.vision else (), strict=True))
    ids, learned = inputs.ids.tolist(), example.supervised.tolist()
    index = 0
    while index < len(ids):
        grid = grids.get(index)
        if grid is not None:
            frames = f"{grid.t} x " if grid.t > 1 else ""
            count = grid.tokens(merge_size)
            yield f"[{frames}{grid.h // merge_size} x {grid.w // merge_size} picture tokens]", learned[index]
            index += count
        else:
            text = tokenizer.decode([ids[index]], skip_special=False)
            yield text.replace("\n", "⏎"), learned[index]
            index += 1
