"""Keys and values of one session in one stretch of memory, from which tokens may leave anywhere.

Shape suffixes: T new tokens, S tokens in the cache, D width, K kv heads, C channels of one head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clearsight.kernels.attention import cached_attention
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.rope import turn_keys


class LiveCache:
    """Allocated once, for `capacity` tokens. length: tokens it holds now.

    Keys are kept twice: turned to where their tokens stand now, and as they were first computed. A token that outlives
    ten thousand others is moved ten thousand times; as every move starts from the first keys, none adds to the rounding
    of the one before.
    """

    def __init__(self, model: Qwen2VL, capacity: int) -> None:
        config = model.config.text
        shape = (config.num_layers, capacity, config.num_kv_heads, config.head_dim)
        self._model = model
        self._config = config
        self.capacity = capacity
        self.length = 0
        # Zeros, not empty: all memory that a session will ever use is taken now.
        self._keys, self._values, self._first_keys = (
            torch.zeros(shape, device=model.device, dtype=model.dtype) for _ in range(3)
        )
        self._positions = torch.zeros(3, capacity, dtype=torch.int64)
        self._first_positions = torch.zeros(3, capacity, dtype=torch.int64)
        self._moved = 0  # rows before this one may stand elsewhere than they did at first

    @property
    def bytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes + self._first_keys.nbytes

    def append(self, x_TD: Tensor, positions: Tensor) -> Tensor:
        """Run embedded tokens at `positions` (3, T) through the model behind all that is here; hidden states (T, D)."""
        start, stop = self.length, self.length + x_TD.shape[0]
        assert stop <= self.capacity, f"{stop} tokens in a cache of {self.capacity}"
        self._first_positions[:, start:stop] = self._positions[:, start:stop] = positions
        hidden_TD = self._model.model(x_TD, positions.to(self._model.device), _Append(self, start, stop))
        self.length = stop
        return hidden_TD

    def truncate(self, length: int) -> None:
        """Forget the newest tokens beyond `length`, as if they had never been: nothing before them knows of them."""
        self.length = length
        self._moved = min(self._moved, length)

    def keep(self, rows: Tensor, positions: Tensor) -> None:
        """Keep only `rows` (ascending), whose tokens from now on stand at `positions` (3, len(rows))."""
        count = rows.shape[0]
        self._first_keys[:, self._moved : self.length] = self._keys[:, self._moved : self.length]
        self._moved = self.length
        origins = self._first_positions[:, rows]
        stays = (rows == torch.arange(count)) & (positions == self._positions[:, rows]).all(0)
        same = int(stays.long().cumprod(0).sum())
        shift = (positions - origins)[:, same:].to(self._model.device)
        moving = rows[same:].to(self._model.device)
        for layer in range(self._config.num_layers):
            first = self._first_keys[layer, moving]
            self._first_keys[layer, same:count] = first
            self._keys[layer, same:count] = turn_keys(first, shift, self._config)
            self._values[layer, same:count] = self._values[layer, moving]
        self._first_positions[:, :count] = origins
        self._positions[:, :count] = positions
        self.length = self._moved = count

    def store(self, layer: int, start: int, stop: int, k_TKC: Tensor, v_TKC: Tensor) -> tuple[Tensor, Tensor]:
        """Put new keys and values in their rows; returns all up to them, (S, K, C) each."""
        self._keys[layer, start:stop] = k_TKC
        self._values[layer, start:stop] = v_TKC
        return self._keys[layer, :stop], self._values[layer, :stop]


class _Append:
    """A step of one sequence, whose new tokens take rows [start, stop)."""

    def __init__(self, cache: LiveCache, start: int, stop: int) -> None:
        self._cache, self._start, self._stop = cache, start, stop

    def attend(self, layer: int, q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor) -> Tensor:
        return cached_attention(q_THC, *self._cache.store(layer, self._start, self._stop, k_TKC, v_TKC))
