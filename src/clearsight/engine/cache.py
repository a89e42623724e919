"""Keys and values of all sequences in one pool of blocks per layer.

Shape suffixes: T new tokens, N blocks, B tokens of a block, H heads, K kv heads, C channels of one head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clearsight.config import TextConfig
from clearsight.kernels.decoder import PagedRows
from clearsight.kernels.native_attention import Layout
from clearsight.kernels.paged import paged_attention


class KVPool:
    """keys[layer], values[layer]: (N, B, K, C). On the CPU memory is taken by the system only as blocks are written."""

    def __init__(
        self, config: TextConfig, blocks: int, block_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (blocks, block_size, config.num_kv_heads, config.head_dim)
        self.block_size = block_size
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers, keys and values."""
        return 2 * len(self.keys) * self.keys[0][0].nbytes


class PagedStep:
    """Where the rows of one pass belong: sequence s brings lengths[s] new tokens and then has contexts[s] in all.

    tables[s]: its blocks in order, int32.
    """

    def __init__(self, pool: KVPool, tables: Sequence[Tensor], lengths: Sequence[int], contexts: Sequence[int]) -> None:
        self.pool = pool
        slots = torch.cat([self._slots_of(*each) for each in zip(tables, lengths, contexts, strict=True)])
        self.rows = PagedRows(pool.keys, pool.values, slots, Layout(tuple(lengths), tuple(contexts), tuple(tables)))

    def attend(self, layer: int, q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor) -> Tensor:
        """Store the new keys and values, then attend causally over each sequence's own. Returns (T, H, C)."""
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        keys.flatten(0, 1).index_copy_(0, self.rows.slots, k_TKC)
        values.flatten(0, 1).index_copy_(0, self.rows.slots, v_TKC)
        return paged_attention(q_THC, keys, values, self.rows.layout)

    def _slots_of(self, table: Tensor, length: int, context: int) -> Tensor:
        """Rows of the flattened pool that the newest `length` of `context` tokens take."""
        size = self.pool.block_size
        places = torch.arange(context - length, context, device=table.device)
        return table[places // size].long() * size + places % size
