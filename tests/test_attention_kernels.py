"""Packed and paged attention against their reference twins, with and without the native kernel."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clearsight.kernels import native_attention
from clearsight.kernels.attention import attention_reference, cached_attention_reference, packed_attention
from clearsight.kernels.native_attention import Layout
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
    fast = paged_attention(q, keys, values, Layout(lengths, contexts, tables))
    slow = paged_attention_reference(q, keys, values, Layout(lengths, contexts, tables))
    assert fast.dtype == dtype
    torch.testing.assert_close(fast, slow, atol=2e-2 if dtype is torch.bfloat16 else 1e-5, rtol=2e-2)


def test_the_reference_reads_blocks_in_table_order() -> None:
    keys, values, table = scatter([37], 16, (2, 64), torch.float32)
    q = torch.randn(5, 4, 64)
    rows = [(int(table[i // 16]), i % 16) for i in range(37)]
    k, v = (torch.stack([pool[row] for row in rows]) for pool in (keys, values))
    torch.testing.assert_close(
        paged_attention_reference(q, keys, values, Layout([5], [37], [table])), cached_attention_reference(q, k, v)
    )


native = pytest.mark.skipif(
    not native_attention.supports(*[torch.zeros(1, 1, 16, dtype=torch.bfloat16)] * 3), reason="no native attention here"
)


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    heads=st.sampled_from([(1, 1), (2, 2), (4, 2), (6, 1), (7, 1)]),
    channels=st.sampled_from([16, 32, 48, 64, 80, 112, 128, 256]),
    causal=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_packed_attention_in_bf16_is_its_reference(
    lengths: list[int], heads: tuple[int, int], channels: int, causal: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    q, k, v = (torch.randn(sum(lengths), h, channels).bfloat16() for h in (heads[0], heads[1], heads[1]))
    expected = attention_reference(q, k, v, lengths, causal)
    torch.testing.assert_close(packed_attention(q, k, v, lengths, causal), expected, atol=2e-2, rtol=2e-2)


@native
@pytest.mark.parametrize("context", [511, 512, 513, 1500])
@pytest.mark.parametrize("length", [1, 5, 30])
def test_few_queries_over_many_keys(context: int, length: int) -> None:
    torch.manual_seed(context + length)
    keys, values, table = scatter([context], 16, (2, 128), torch.bfloat16)
    q = torch.randn(length, 12, 128).bfloat16()
    layout = Layout([length], [context], [table])
    expected = paged_attention_reference(q.float(), keys.float(), values.float(), layout)
    torch.testing.assert_close(paged_attention(q, keys, values, layout).float(), expected, atol=4e-3, rtol=1e-2)


@native
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1000.0])
def test_scores_of_any_size(size: float) -> None:
    """Far beyond what exp can take, and growing along the keys, so that the running maximum rises again and again."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(200, 2, 80) for _ in range(3))
    q, k, v = (q * size).bfloat16(), (k * torch.linspace(0.1, 1, 200)[:, None, None]).bfloat16(), v.bfloat16()
    expected = attention_reference(q.float(), k.float(), v.float(), [200], causal=True)
    torch.testing.assert_close(packed_attention(q, k, v, [200], True).float(), expected, atol=2e-2, rtol=2e-2)


@native
def test_rows_may_lie_apart() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(90, 3, 4, 80).bfloat16().unbind(1)
    expected = packed_attention(*(x.contiguous() for x in (q, k, v)), [90], causal=False)
    assert torch.equal(packed_attention(q, k, v, [90], causal=False), expected)


@native
def test_a_sequence_does_not_depend_on_those_beside_it() -> None:
    torch.manual_seed(0)
    contexts, lengths = [700, 33, 160, 300], [1, 33, 7, 150]
    keys, values, *tables = scatter(contexts, 16, (2, 64), torch.bfloat16)
    q = torch.randn(sum(lengths), 12, 64).bfloat16()
    together = paged_attention(q, keys, values, Layout(lengths, contexts, tables)).split(lengths)
    for rows, q_alone, *one in zip(together, q.split(lengths), lengths, contexts, tables, strict=True):
        alone = paged_attention(q_alone, keys, values, Layout(*([x] for x in one)))
        assert torch.equal(rows, alone)


@native
def test_a_row_does_not_depend_on_what_it_may_not_see() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 150, 2, 80).bfloat16()
    before = packed_attention(q, k, v, [150], causal=True)
    k[100:] *= 50
    v[100:] *= 1000
    after = packed_attention(q, k, v, [150], causal=True)
    assert torch.equal(before[:100], after[:100])
    assert not torch.equal(before[100:], after[100:])


@native
@pytest.mark.parametrize("channels", [80, 128])
def test_keys_with_a_great_bias_and_values_of_all_sizes(channels: int) -> None:
    """As in real models: a channel of the keys far above the others, a first key that takes much weight and says
    nothing, values whose sizes differ by orders of magnitude."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 300, 2, channels)
    k[..., 3] += 60
    k[0] += 2 * q.mean(0)
    v = v * torch.exp2(torch.randint(-12, 6, (300, 1, 1)))
    v[0] = 0
    q, k, v = (x.bfloat16() for x in (q, k, v))
    expected = attention_reference(q.float(), k.float(), v.float(), [300], causal=False)
    found = packed_attention(q, k, v, [300], causal=False).float()
    assert (found - expected).norm() < 4e-3 * expected.norm()
