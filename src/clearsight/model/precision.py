"""Which number format a machine is fast in."""

from __future__ import annotations

import time
from functools import cache

import torch

_EMULATED = 4.0
"""Slower than float32 by more than this is emulated: in hardware bfloat16 is the faster one, emulated it was 45 times
as slow (AVX2)."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware; on a CPU this is found out by trying, once.

    What a CPU announces is no answer: some announce nothing and are fast, others have the type and no products.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _cpu_has_bfloat16() if device.type == "cpu" else True


@cache
def _cpu_has_bfloat16() -> bool:
    return _seconds(torch.bfloat16) < _EMULATED * _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """The least that a product of 64 x 256 and 256 x 256 took; the first of three also sets things up."""
    a, b = torch.ones(64, 256, dtype=dtype), torch.ones(256, 256, dtype=dtype)
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        a @ b
        taken.append(time.perf_counter() - begin)
    return min(taken)


def product_dtype(precision: str, device: torch.device) -> torch.dtype:
    """precision: "bfloat16", "float32", or "auto", which is bfloat16 where `device` has it."""
    wanted = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    return torch.bfloat16 if wanted else torch.float32
