"""Attention of new tokens over keys and values that lie scattered in the blocks of one pool.

Shape suffixes: T query tokens (packed), H heads, K kv heads, C channels of one head, N blocks of the pool,
B tokens of one block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clearsight.kernels import native_attention
from clearsight.kernels.attention import cached_attention, cached_attention_reference
from clearsight.kernels.native_attention import Layout


def paged_attention(q_THC: Tensor, keys_NBKC: Tensor, values_NBKC: Tensor, layout: Layout) -> Tensor:
    """Causal attention of each sequence's newest tokens over its blocks of one layer's pool. Returns (T, H, C).

    Sequence s owns the next `lengths[s]` rows of `q_THC`, its newest tokens, and `contexts[s]` keys in all, these
    tokens' own included; key i lies in block `tables[s][i // B]` (int32) at place i % B.
    """
    if native_attention.supports(q_THC, keys_NBKC, values_NBKC):
        return native_attention.attend(q_THC, keys_NBKC, values_NBKC, layout, causal=True)
    return _each_sequence(cached_attention, q_THC, keys_NBKC, values_NBKC, layout)


def paged_attention_reference(q_THC: Tensor, keys_NBKC: Tensor, values_NBKC: Tensor, layout: Layout) -> Tensor:
    """Defines `paged_attention`: every sequence alone, its blocks gathered, softmax in float32."""
    return _each_sequence(cached_attention_reference, q_THC, keys_NBKC, values_NBKC, layout)


def _each_sequence(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    q_THC: Tensor,
    keys_NBKC: Tensor,
    values_NBKC: Tensor,
    layout: Layout,
) -> Tensor:
    assert layout.tables is not None
    queries = torch.split(q_THC, list(layout.lengths))
    outputs = [
        attend(q, _gather(keys_NBKC, table, context), _gather(values_NBKC, table, context))
        for q, table, context in zip(queries, layout.tables, layout.contexts, strict=True)
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _gather(pool_NBKC: Tensor, table: Tensor, context: int) -> Tensor:
    """The first `context` rows of one sequence, (context, K, C)."""
    blocks = -(-context // pool_NBKC.shape[1])
    return pool_NBKC[table[:blocks]].flatten(0, 1)[:context]
