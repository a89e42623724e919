"""Keys and values of one sequence, layer by layer.

Shape suffixes: T new tokens, S all tokens so far, K kv heads, C channels of one head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clearsight.config import TextConfig


class LayerKV:
    """One layer's rows in a buffer that grows as needed, never beyond twice what it holds."""

    def __init__(self, capacity: int, kv_heads: int, head_dim: int, device: torch.device, dtype: torch.dtype) -> None:
        self.keys = torch.empty(capacity, kv_heads, head_dim, device=device, dtype=dtype)
        self.values = torch.empty_like(self.keys)
        self.length = 0

    def append(self, k_TKC: Tensor, v_TKC: Tensor) -> tuple[Tensor, Tensor]:
        start, stop = self.length, self.length + k_TKC.shape[0]
        if stop > self.keys.shape[0]:
            self._grow(max(stop, 2 * self.keys.shape[0]))
        self.keys[start:stop] = k_TKC
        self.values[start:stop] = v_TKC
        self.length = stop
        return self.keys[:stop], self.values[:stop]

    def _grow(self, capacity: int) -> None:
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_empty(capacity, *old.shape[1:])
            new[: self.length] = old[: self.length]
            setattr(self, name, new)


class SequenceCache:
    """All layers' caches of one sequence."""

    def __init__(self, config: TextConfig, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self.layers = [
            LayerKV(capacity, config.num_kv_heads, config.head_dim, device, dtype) for _ in range(config.num_layers)
        ]

    @property
    def length(self) -> int:
        """Tokens stored; the same in every layer between forward passes."""
        return self.layers[0].length
