"""Attention over packed segments: no padding, and never a mask over the whole row.

Shape suffixes: T query tokens (packed), H heads, K kv heads, C channels of one head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clearsight.kernels import native_attention
from clearsight.kernels.native_attention import Layout


def attention_reference(q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor, lengths: Sequence[int], causal: bool) -> Tensor:
    """Defines `packed_attention`: every segment alone, softmax in float32. Returns (T, H, C)."""
    segments = zip(*(torch.split(x, list(lengths)) for x in (q_THC, k_TKC, v_TKC)), strict=True)
    return torch.cat([_attend_reference(q, k, v, causal) for q, k, v in segments])


def cached_attention_reference(q_THC: Tensor, k_SKC: Tensor, v_SKC: Tensor) -> Tensor:
    """Defines `cached_attention`."""
    return _attend_reference(q_THC, k_SKC, v_SKC, causal=True)


def _attend_reference(q_THC: Tensor, k_SKC: Tensor, v_SKC: Tensor, causal: bool) -> Tensor:
    """The queries are the newest T of S tokens."""
    groups = q_THC.shape[1] // k_SKC.shape[1]
    keys, values = (x.float().repeat_interleave(groups, dim=1) for x in (k_SKC, v_SKC))
    scores = torch.einsum("qhc,khc->hqk", q_THC.float(), keys) * q_THC.shape[-1] ** -0.5
    if causal:
        scores = scores.masked_fill(~_seen(q_THC.shape[0], k_SKC.shape[0], q_THC.device), float("-inf"))
    return torch.einsum("hqk,khc->qhc", scores.softmax(-1), values).to(q_THC.dtype)


def _seen(queries: int, keys: int, device: torch.device) -> Tensor:
    """(T, S): which keys the newest T of S tokens may look at."""
    ages = torch.arange(keys, device=device)
    return ages <= ages[keys - queries :, None]


def packed_attention(q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor, lengths: Sequence[int], causal: bool) -> Tensor:
    """Attention inside each segment of a packed row. `lengths` add up to T. Returns (T, H, C).

    In torch, runs of neighbouring segments with equal length (the slots of a video, equal pictures) go as one batch.
    """
    if native_attention.supports(q_THC, k_TKC, v_TKC):
        return native_attention.attend(q_THC, k_TKC, v_TKC, Layout(lengths, lengths), causal)
    runs = _runs(lengths)
    # Split, not sliced: the gradient of a slice is a whole tensor of zeros for every run.
    sizes = [length * count for length, count in runs]
    parts = zip(*(torch.split(x, sizes) for x in (q_THC, k_TKC, v_TKC)), strict=True)
    outputs = []
    for (length, count), run in zip(runs, parts, strict=True):
        q, k, v = (x.reshape(count, length, *x.shape[1:]).transpose(1, 2) for x in run)
        attend = _short_training_attention if _wants_short(q) else _fused_attention
        outputs.append(attend(q, k, v, causal).transpose(1, 2).flatten(0, 1))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _fused_attention(q_NHTC: Tensor, k_NKTC: Tensor, v_NKTC: Tensor, causal: bool) -> Tensor:
    gqa = q_NHTC.shape[1] != k_NKTC.shape[1]
    return F.scaled_dot_product_attention(q_NHTC, k_NKTC, v_NKTC, is_causal=causal, enable_gqa=gqa)


# On CPU the fused kernel's backward pass is slower than plain products up to about these lengths and, in bf16, beyond:
# there it is what the weights, kept for the gradient, take that sets the limit.
_SHORT = {torch.bfloat16: 768, torch.float32: 256}


def _wants_short(q_NHTC: Tensor) -> bool:
    return q_NHTC.requires_grad and q_NHTC.device.type == "cpu" and q_NHTC.shape[2] <= _SHORT.get(q_NHTC.dtype, 0)


def _short_training_attention(q_NHTC: Tensor, k_NKTC: Tensor, v_NKTC: Tensor, causal: bool) -> Tensor:
    groups = q_NHTC.shape[1] // k_NKTC.shape[1]
    if groups > 1:
        k_NKTC, v_NKTC = (x.repeat_interleave(groups, dim=1) for x in (k_NKTC, v_NKTC))
    scores = (q_NHTC * q_NHTC.shape[-1] ** -0.5) @ k_NKTC.transpose(-1, -2)
    if causal:
        length = scores.shape[-1]
        scores = scores.masked_fill(~_seen(length, length, scores.device), float("-inf"))
    weights: Tensor = scores.softmax(-1).to(v_NKTC.dtype)
    return weights @ v_NKTC


def cached_attention(q_THC: Tensor, k_SKC: Tensor, v_SKC: Tensor) -> Tensor:
    """Causal attention of the newest T queries over all S >= T keys of one sequence. Returns (T, H, C)."""
    tokens, heads, channels = q_THC.shape
    keys, kv_heads, _ = k_SKC.shape
    if tokens == keys:
        return packed_attention(q_THC, k_SKC, v_SKC, (tokens,), causal=True)
    k, v = k_SKC.transpose(0, 1), v_SKC.transpose(0, 1)
    if tokens == 1:
        # The query heads of one kv head stand as rows of one product; this is far faster than enable_gqa here.
        q = q_THC.view(1, kv_heads, heads // kv_heads, channels)[0]
        return F.scaled_dot_product_attention(q[None], k[None], v[None])[0].reshape(1, heads, channels)
    # A chunk sees all that came before it and itself causally: the mask is (T, S), not (S, S).
    seen = _seen(tokens, keys, q_THC.device)
    q = q_THC.transpose(0, 1)
    out = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=seen, enable_gqa=heads != kv_heads)
    return out[0].transpose(0, 1)


def _runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """[(length, how many neighbours share it)], in order."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs
