"""Which number format a machine is fast in."""

from __future__ import annotations

from functools import cache

import torch

_PRODUCTS = ("avx512_bf16", "amx_bf16", "bf16")
"""What processors with such products announce, x86 and ARM."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware.

    A processor that only emulates it (AVX2 alone: 45 times as slow) is given float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _cpu_has_bfloat16() if device.type == "cpu" else True


@cache
def _cpu_has_bfloat16() -> bool:
    # Not found out by trying: a run that goes on later, or in several processes, must come to the same answer.
    announced = torch.cpu.get_capabilities()
    return any(announced.get(name, False) for name in _PRODUCTS)


def product_dtype(precision: str, device: torch.device) -> torch.dtype:
    """precision: "bfloat16", "float32", or "auto", which is bfloat16 where `device` has it."""
    wanted = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    return torch.bfloat16 if wanted else torch.float32


def makes_tiles(precision: str) -> bool:
    """Whether this processor makes products of that precision in tiles (AMX), several times as fast as in rows."""
    narrow = product_dtype(precision, torch.device("cpu")) == torch.bfloat16
    return narrow and bool(torch.cpu.get_capabilities().get("amx_bf16", False))
