"""Paged attention against its reference twin, and against one contiguous row."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clearsight.kernels.attention import cached_attention_reference
from clearsight.kernels.paged import paged_attention, paged_attention_reference


@st.composite
def sequences(draw: st.DrawFn) -> list[tuple[int, int]]:
    """(new tokens, context) of a few sequences."""
    pairs = st.tuples(st.integers(1, 40), st.integers(0, 150)).map(lambda pair: (pair[0], sum(pair)))
    return draw(st.lists(pairs, min_size=1, max_size=4))


def scatter(contexts: Sequence[int], block: int, shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """A key pool, a value pool and one table per sequence; the blocks lie in no order and unused rows hold NaN."""
    counts = [-(-context // block) for context in contexts]
    order = torch.randperm(sum(counts) + 2)[: sum(counts)].to(torch.int32)
    tables = torch.split(order, counts)
    pools = torch.randn(2, sum(counts) + 2, block, *shape).to(dtype)
    for table, context in zip(tables, contexts, strict=True):
        if context % block:
            pools[:, table[-1], context % block :] = float("nan")
    return pools[0], pools[1], *tables


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(
    items=sequences(),
    block=st.sampled_from([1, 16, 32]),
    kv_heads=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 6, 7]),
    channels=st.sampled_from([16, 64, 80, 128]),
    seed=st.integers(0, 1000),
)
def test_paged_attention_is_its_reference(
    dtype: torch.dtype, items: list[tuple[int, int]], block: int, kv_heads: int, groups: int, channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    lengths, contexts = zip(*items, strict=True)
    keys, values, *tables = scatter(contexts, block, (kv_heads, channels), dtype)
    q = torch.randn(sum(lengths), kv_heads * groups, channels).to(dtype)
    fast = paged_attention(q, keys, values, tables, lengths, contexts)
    slow = paged_attention_reference(q, keys, values, tables, lengths, contexts)
    assert fast.dtype == dtype
    torch.testing.assert_close(fast, slow, atol=2e-2 if dtype is torch.bfloat16 else 1e-5, rtol=2e-2)


def test_the_reference_reads_blocks_in_table_order() -> None:
    keys, values, table = scatter([37], 16, (2, 64), torch.float32)
    q = torch.randn(5, 4, 64)
    rows = [(int(table[i // 16]), i % 16) for i in range(37)]
    k, v = (torch.stack([pool[row] for row in rows]) for pool in (keys, values))
    torch.testing.assert_close(
        paged_attention_reference(q, keys, values, [table], [5], [37]), cached_attention_reference(q, k, v)
    )
