"""M-RoPE positions: where each token of a sequence stands in time, height and width (facts, 6.2).

Shape suffixes: T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clearsight.inputs import Grid


def mrope_positions(num_tokens: int, runs: Sequence[tuple[int, Grid]], merge_size: int = 2) -> Tensor:
    """Positions (3, T) int64, axes t, h, w, of one sequence of `num_tokens` tokens, starting at 0.

    runs: for each picture or video, in order, the index of its first pad token and its grid before the merge.
    Every other token is text. Text advances by one on all axes; a run advances by the largest of its merged sides,
    time included (paper, section 2.1). Raises ValueError if runs overlap or do not fit.
    """
    spans, index, position = [], 0, 0
    for start, grid in runs:
        merged = Grid(grid.t, grid.h // merge_size, grid.w // merge_size)
        if start < index:
            raise ValueError(f"a vision run starts at token {start}, before token {index} where it may begin")
        spans.append(_text(start - index, position))
        position += start - index
        spans.append(_grid(merged, position))
        position += max(merged)
        index = start + merged.patches
    if index > num_tokens:
        raise ValueError(f"the vision runs end at token {index}; the sequence has {num_tokens} tokens")
    spans.append(_text(num_tokens - index, position))
    return torch.cat(spans, dim=1)


def _text(length: int, start: int) -> Tensor:
    return torch.arange(start, start + length).expand(3, length)


def _grid(merged: Grid, start: int) -> Tensor:
    axes = torch.meshgrid(*map(torch.arange, merged), indexing="ij")
    return torch.stack(axes).flatten(1) + start
