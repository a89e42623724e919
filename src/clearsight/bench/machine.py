"""What this machine can do at best, measured in the run: memory reads, products of bytes and of real numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from clearsight.kernels.linear import quantize_weight, quantized_linear

_READ_BYTES = 2**29
_SIDE = 2048
_SMALL = 256
_MOST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Machine:
    """Per second: bytes read from memory, operations (a product and a sum are two) on bytes, and on bfloat16 or
    float32, whichever is the faster."""

    read_bytes: float
    byte_ops: float
    float_ops: float

    def best_of(self, other: Machine) -> Machine:
        return Machine(*(max(pair) for pair in zip(_values(self), _values(other), strict=True)))


def _values(machine: Machine) -> tuple[float, float, float]:
    return machine.read_bytes, machine.byte_ops, machine.float_ops


@torch.inference_mode()
def measure(repeats: int = 3) -> Machine:
    """The best of several tries with torch's threads; about two seconds on two cores, and half a gigabyte."""
    memory = torch.zeros(_READ_BYTES // 4, dtype=torch.int32)
    reading = _READ_BYTES / min(_seconds(memory.max, repeats), _seconds(memory.view(torch.float32).sum, repeats))
    del memory
    return Machine(
        reading,
        max(operations(_ours, repeats), operations(_torchs, repeats)),
        max(operations(_halves, repeats), operations(_singles, repeats)),
    )


# Each makes a product of square matrices, and what is made repeats it.


def _ours(square: Tensor) -> Callable[[], object]:
    rows, weight = square.bfloat16(), quantize_weight(square, 8, 128)
    return lambda: quantized_linear(rows, weight)


def _torchs(square: Tensor) -> Callable[[], object]:
    signed = (square * 30).clamp(-127, 127).to(torch.int8)
    return lambda: torch._int_mm(signed, signed)


def _halves(square: Tensor) -> Callable[[], object]:
    numbers = square.bfloat16()
    return lambda: numbers @ numbers


def _singles(square: Tensor) -> Callable[[], object]:
    return lambda: square @ square


def operations(product: Callable[[Tensor], Callable[[], object]], repeats: int) -> float:
    """A second, on large matrices; on small ones where they show that large ones would take all day (emulation)."""
    rate = 0.0
    for side in (_SMALL, _SIDE):
        work = 2 * side**3
        if side == _SIDE and rate * _MOST_SECONDS < work:
            break
        rate = work / _seconds(product(torch.randn(side, side)), repeats)
    return rate


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    work()
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best
