"""Keys and values of one session in one stretch of memory, from which tokens may leave anywhere.

Shape suffixes: T new tokens, D width, K kv heads, C channels of one head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clearsight.engine.cache import KVPool, PagedStep
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.rope import turn_keys

_BLOCK = 16


class LiveCache:
    """Allocated once, for `capacity` tokens. length: tokens it holds now.

    Keys are kept twice: turned to where their tokens stand now, and as they were first computed. A token that outlives
    ten thousand others is moved ten thousand times; as every move starts from the first keys, none adds to the rounding
    of the one before.
    """

    def __init__(self, model: Qwen2VL, capacity: int) -> None:
        config = model.config.text
        blocks = -(-capacity // _BLOCK)
        self._model = model
        self._config = config
        self.capacity = capacity
        self.length = 0
        self._pool = KVPool(config, blocks, _BLOCK, model.device, model.dtype)
        self._table = torch.arange(blocks, dtype=torch.int32, device=model.device)
        self.keys = [layer.flatten(0, 1) for layer in self._pool.keys]
        self.values = [layer.flatten(0, 1) for layer in self._pool.values]
        self._first_keys = [torch.empty_like(layer) for layer in self.keys]
        for layer in (*self.keys, *self.values, *self._first_keys):
            layer.zero_()  # all memory that the session will ever use is taken now
        self._positions = torch.zeros(3, capacity, dtype=torch.int64)
        self._first_positions = torch.zeros(3, capacity, dtype=torch.int64)
        self._moved = 0  # rows before this one may stand elsewhere than they did at first

    @property
    def bytes(self) -> int:
        return sum(layer.nbytes for layer in (*self.keys, *self.values, *self._first_keys))

    def append(self, x_TD: Tensor, positions: Tensor) -> Tensor:
        """Run embedded tokens at `positions` (3, T) through the model behind all that is here; hidden states (T, D)."""
        start, stop = self.length, self.length + x_TD.shape[0]
        assert stop <= self.capacity, f"{stop} tokens in a cache of {self.capacity}"
        self._first_positions[:, start:stop] = self._positions[:, start:stop] = positions
        step = PagedStep(self._pool, [self._table[: -(-stop // _BLOCK)]], [stop - start], [stop])
        hidden_TD = self._model.model(x_TD, positions.to(self._model.device), step)
        self.length = stop
        return hidden_TD

    def truncate(self, length: int) -> None:
        """Forget the newest tokens beyond `length`, as if they had never been: nothing before them knows of them."""
        self.length = length
        self._moved = min(self._moved, length)

    def keep(self, rows: Tensor, positions: Tensor) -> None:
        """Keep only `rows` (ascending), whose tokens from now on stand at `positions` (3, len(rows))."""
        count = rows.shape[0]
        origins = self._first_positions[:, rows]
        stays = (rows == torch.arange(count)) & (positions == self._positions[:, rows]).all(0)
        same = int(stays.long().cumprod(0).sum())
        shift = (positions - origins)[:, same:].to(self._model.device)
        moving = rows[same:].to(self._model.device)
        for keys, values, first_keys in zip(self.keys, self.values, self._first_keys, strict=True):
            first_keys[self._moved : self.length] = keys[self._moved : self.length]
            first = first_keys[moving]
            first_keys[same:count] = first
            keys[same:count] = turn_keys(first, shift, self._config)
            values[same:count] = values[moving]
        self._first_positions[:, :count] = origins
        self._positions[:, :count] = positions
        self.length = self._moved = count
