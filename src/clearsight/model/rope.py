"""Rotary tables: 2D for the vision tower, three-axis M-RoPE for the language model. Angles are float32.

Shape suffixes: T tokens, P patches, C channels of one head, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clearsight.config import TextConfig, VisionConfig
from clearsight.inputs import Grid
from clearsight.kernels import rowwise as kernels


class Rope(NamedTuple):
    """cos and sin, each (T, 1, C) with the half-split layout: channel i turns with channel i + C/2."""

    cos: Tensor
    sin: Tensor


def rotate(x_THC: Tensor, rope: Rope) -> Tensor:
    """Turn every head of `x` in float32 and give it back in its own dtype (facts, 5.3 and 6.4)."""
    return kernels.rotate(x_THC, rope.cos, rope.sin)


def _frequencies(theta: float, width: int, device: torch.device) -> Tensor:
    exponents = torch.arange(0, width, 2, dtype=torch.int64, device=device).float() / width
    return 1.0 / theta**exponents


def _table(angles: Tensor) -> Rope:
    doubled = torch.cat((angles, angles), dim=-1)[:, None, :]
    return Rope(doubled.cos(), doubled.sin())


def mrope_table(positions: Tensor, config: TextConfig) -> Rope:
    """Rotary tables for positions (3, T): each frequency listens to one axis, by `mrope_section` (facts, 6.4)."""
    frequencies = _frequencies(config.rope_theta, config.head_dim, positions.device)
    axis = torch.repeat_interleave(
        torch.arange(3, device=positions.device), torch.tensor(config.mrope_section, device=positions.device)
    )
    return _table(positions.float()[axis].T * frequencies)


def turn_keys(keys_TKC: Tensor, shift: Tensor, config: TextConfig) -> Tensor:
    """Stored keys as they would be if each token stood `shift` (3, T) positions further on.

    Rotations add up, so turning by the difference takes a key from its old position to the new one: exact but for one
    rounding to the keys' dtype. Values know no position.
    """
    return rotate(keys_TKC, mrope_table(shift, config))


def patch_coordinates(grid: Grid, merge: int, device: torch.device) -> Tensor:
    """(row, column) of every patch, (P, 2), in the merged-cell order of the pixel rows (facts, 5.2)."""
    rows = torch.arange(grid.h, device=device).view(grid.h // merge, 1, merge, 1)
    columns = torch.arange(grid.w, device=device).view(1, grid.w // merge, 1, merge)
    shape = (grid.h // merge, grid.w // merge, merge, merge)
    one_slot = torch.stack((rows.expand(shape).flatten(), columns.expand(shape).flatten()), dim=-1)
    return one_slot.repeat(grid.t, 1)


def vision_table(grids: Sequence[Grid], config: VisionConfig, device: torch.device) -> Rope:
    """2D rotary tables for all patches: half the frequencies turn with the row, half with the column (facts, 5.3)."""
    coordinates = torch.cat([patch_coordinates(grid, config.merge_size, device) for grid in grids])
    frequencies = _frequencies(config.rope_theta, config.head_dim // 2, device)
    return _table((coordinates.float()[:, :, None] * frequencies).flatten(1))
