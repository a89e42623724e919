"""The pure values that pass from room to room. No behaviour beyond checking themselves and packing.

Shape suffixes: T tokens, P patches (before the merge), M merged tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """A picture or video counted in frame pairs (t) and 14-pixel patches (h, w), before the 2x2 merge."""

    t: int
    h: int
    w: int

    @property
    def patches(self) -> int:
        return self.t * self.h * self.w

    def tokens(self, merge_size: int = 2) -> int:
        """Merged tokens, as the language model counts them (facts, 3.5)."""
        return self.patches // merge_size**2


@dataclass(frozen=True, slots=True)
class VisionPatches:
    """Pictures and videos alike: flattened patches in reading order (facts, 3.4) and one grid each.

    pixels: (P, patch_dim) float32, rows of all grids one after another; grids: in the same order.
    """

    pixels: Tensor
    grids: tuple[Grid, ...]

    def __post_init__(self) -> None:
        expected = sum(grid.patches for grid in self.grids)
        if self.pixels.ndim != 2 or self.pixels.shape[0] != expected:
            raise ValueError(f"{tuple(self.pixels.shape)} pixel rows do not fit grids {self.grids} ({expected} rows)")

    @staticmethod
    def concatenate(items: Sequence[VisionPatches]) -> VisionPatches:
        if len(items) == 1:
            return items[0]
        return VisionPatches(
            torch.cat([item.pixels for item in items]), tuple(grid for item in items for grid in item.grids)
        )


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """One or several packed sequences, ready for the model: the only hand-over from processor to engine.

    ids: (T,) int64. positions: (3, T) int64, axes t, h, w (facts, 6.2). lengths: tokens of each packed sequence, adding
    up to T. vision: patches, or None for text alone. vision_starts: for each grid, in order, the index in `ids`
    of its first pad token; its run is `grid.tokens()` long.
    """

    ids: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    vision: VisionPatches | None = None
    vision_starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        total = self.ids.shape[0]
        if self.positions.shape != (3, total):
            raise ValueError(f"positions {tuple(self.positions.shape)} must be (3, {total})")
        if sum(self.lengths) != total:
            raise ValueError(f"sequence lengths {self.lengths} must add up to {total}")
        if len(self.vision_starts) != (len(self.vision.grids) if self.vision else 0):
            raise ValueError(f"{len(self.vision_starts)} vision runs do not match the grids of {self.vision}")

    def vision_slots(self, merge_size: int = 2) -> Tensor:
        """(M,) the indices in `ids` of all pad tokens, in the order of the patches."""
        grids = self.vision.grids if self.vision else ()
        runs = zip(self.vision_starts, (grid.tokens(merge_size) for grid in grids), strict=True)
        return torch.cat([torch.empty(0, dtype=torch.int64), *(torch.arange(s, s + n) for s, n in runs)])

    @property
    def next_position(self) -> int:
        """Where the next token of a single sequence stands, on all three axes (facts, 6.5)."""
        if len(self.lengths) != 1:
            raise ValueError(f"{len(self.lengths)} packed sequences have no single next position")
        return int(self.positions.max()) + 1

    @staticmethod
    def pack(items: Sequence[ModelInputs]) -> ModelInputs:
        """Several sequences in one row: nothing padded, positions restarting per sequence (facts, 6.6)."""
        if len(items) == 1:
            return items[0]
        offset, starts = 0, []
        for item in items:
            starts += [offset + start for start in item.vision_starts]
            offset += item.ids.shape[0]
        visions = [item.vision for item in items if item.vision is not None]
        return ModelInputs(
            ids=torch.cat([item.ids for item in items]),
            positions=torch.cat([item.positions for item in items], dim=1),
            lengths=tuple(length for item in items for length in item.lengths),
            vision=VisionPatches.concatenate(visions) if visions else None,
            vision_starts=tuple(starts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen. `temperature=0` or `top_k=1` is greedy; 0 / 1.0 / 0.0 switch the others off.

    logprobs: None for none, otherwise the chosen token's and those of this many best alternatives (0 to 20).
    logit_bias: (token id, what is added to its score) pairs.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=())
    repetition_guard: bool = True
    logprobs: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in _SAMPLING_RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; it must be between {low} and {high}")
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        if self.seed is not None and not (whole and 0 <= self.seed < 2**63):
            raise ValueError(f"seed is {self.seed!r}; it must be a whole number from 0 to 2**63 - 1")
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise ValueError(f"stop strings must be non-empty texts, not {self.stop!r}")

        if self.logprobs is not None and not (type(self.logprobs) is int and 0 <= self.logprobs <= 20):
            raise ValueError(f"logprobs is {self.logprobs!r}; it must be a whole number from 0 to 20")
        for token, bias in self.logit_bias:
            if not -100 <= bias <= 100:
                raise ValueError(f"the logit bias of token {token} is {bias!r}; it must be between -100 and 100")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0 or self.top_k == 1


_SAMPLING_RANGES = (
    ("max_tokens", 1, 1_000_000),
    ("temperature", 0.0, 100.0),
    ("top_k", 0, 1_000_000),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 0.01, 100.0),
    ("presence_penalty", -100.0, 100.0),
    ("frequency_penalty", -100.0, 100.0),
)


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token. finish_reason is set on the last: "stop", "length" or "repetition".

    logprob: natural logarithm of the model's own probability of `token` (before temperature and filters), if
    asked for. top: the best alternatives as (token, logprob), best first. cached: how many tokens of the prompt
    need not be computed, as their keys and values were there when its turn came.
    """

    token: int
    finish_reason: str | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    cached: int = 0
