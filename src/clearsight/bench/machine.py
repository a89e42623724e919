"""What this machine can do at best, measured in the run: memory reads, products of bytes and of bfloat16 numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from clearsight.kernels.linear import quantize_weight, quantized_linear

_READ_BYTES = 2**29
_SIDE = 2048


@dataclass(frozen=True, slots=True)
class Machine:
    """Per second: bytes read from memory, operations (a product and a sum are two) on bytes and on bfloat16."""

    read_bytes: float
    byte_ops: float
    bf16_ops: float

    def best_of(self, other: Machine) -> Machine:
        return Machine(*(max(pair) for pair in zip(_values(self), _values(other), strict=True)))


def _values(machine: Machine) -> tuple[float, float, float]:
    return machine.read_bytes, machine.byte_ops, machine.bf16_ops


@torch.inference_mode()
def measure(repeats: int = 3) -> Machine:
    """The best of several tries with torch's threads; about two seconds on two cores, and half a gigabyte."""
    memory = torch.zeros(_READ_BYTES // 4, dtype=torch.int32)
    reading = _READ_BYTES / min(_seconds(memory.max, repeats), _seconds(memory.view(torch.float32).sum, repeats))
    del memory
    square = torch.randn(_SIDE, _SIDE)
    operations = 2 * _SIDE**3
    halves = square.bfloat16()
    return Machine(
        reading,
        operations / min(_seconds(product, repeats) for product in _byte_products(square)),
        operations / _seconds(lambda: halves @ halves, repeats),
    )


def _byte_products(square: Tensor) -> list[Callable[[], object]]:
    """torch's own product of bytes and ours; the limit is what the better one reaches."""
    weight = quantize_weight(square, 8, 128)
    rows = square.bfloat16()
    signed = (square * 30).clamp(-127, 127).to(torch.int8)
    return [lambda: quantized_linear(rows, weight), lambda: torch._int_mm(signed, signed)]


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    work()
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best
