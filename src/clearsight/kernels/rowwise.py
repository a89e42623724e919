"""Steps between the products, in one pass over memory each: RMS norm, gated activations, rotary positions.

Where a gradient is wanted (but for rotary positions), and without the native kernels, the definitions below run as they
stand.

Shape suffixes: T tokens, D width, H heads, C channels of one head.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clearsight.kernels import native

_MOST_CHANNELS = 256


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Defines `rms_norm`: float32 inside, cast, then the weight."""
    wide = x.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * (wide * scale).to(x.dtype)


def rms_norm(x_TD: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x over its root mean square along the last axis, times the weight (D)."""
    lib = _library_for(x_TD, weight)
    if lib is None or x_TD.dim() != 2 or x_TD.stride(1) != 1 or weight.dtype != x_TD.dtype:
        return rms_norm_reference(x_TD, weight, eps)
    rows, width = x_TD.shape
    out = torch.empty(rows, width, dtype=x_TD.dtype)
    number_format, pointer = native.number_format(x_TD.dtype), weight.data_ptr()
    lib.cs_rms_norm(
        x_TD.data_ptr(), number_format, rows, width, x_TD.stride(0), pointer, eps, out.data_ptr(), native.threads()
    )
    return out


def layer_norm_reference(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Defines `layer_norm`."""
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def layer_norm(x_TD: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / spread along the last axis, times the weight (D), plus the bias (D)."""
    lib = _library() if native.serves(x_TD, weight, bias) else None
    plain = x_TD.dim() == 2 and x_TD.stride(1) == 1 and weight.dtype == bias.dtype == x_TD.dtype
    if lib is None or not plain:
        return layer_norm_reference(x_TD, weight, bias, eps)
    rows, width = x_TD.shape
    out = torch.empty(rows, width, dtype=x_TD.dtype)
    lib.cs_layer_norm(
        *(x_TD.data_ptr(), native.number_format(x_TD.dtype), rows, width, x_TD.stride(0)),
        *(weight.data_ptr(), bias.data_ptr(), eps, out.data_ptr(), native.threads()),
    )
    return out


def add(x: Tensor, other: Tensor) -> Tensor:
    """x + other."""
    lib = _library_for(x, other)
    same = x.shape == other.shape and x.dtype == other.dtype and x.is_contiguous() and other.is_contiguous()
    if lib is None or not same:
        return x + other
    out = torch.empty_like(x)
    number_format = native.number_format(x.dtype)
    lib.cs_add(x.data_ptr(), other.data_ptr(), number_format, x.numel(), out.data_ptr(), native.threads())
    return out


def swiglu_reference(gate: Tensor, up: Tensor) -> Tensor:
    """Defines `swiglu`."""
    return F.silu(gate) * up


def swiglu(gate_TD: Tensor, up_TD: Tensor) -> Tensor:
    """silu(gate) * up; the native kernel rounds once, at the end."""
    if gate_TD.shape == up_TD.shape and gate_TD.dtype == up_TD.dtype and up_TD.dim() == 2 and up_TD.stride(1) == 1:
        out = _gate(gate_TD, up_TD, 1.0)
        if out is not None:
            return out
    return swiglu_reference(gate_TD, up_TD)


def quick_gelu_reference(x: Tensor) -> Tensor:
    """Defines `quick_gelu`: x * sigmoid(1.702 x), by the one fused operation that keeps no sigmoid for the gradient."""
    return F.silu(1.702 * x) / 1.702


def quick_gelu(x_TD: Tensor) -> Tensor:
    """x * sigmoid(1.702 x); the native kernel rounds once, at the end."""
    out = _gate(x_TD, None, 1.702)
    return quick_gelu_reference(x_TD) if out is None else out


def _gate(x_TD: Tensor, other: Tensor | None, factor: float) -> Tensor | None:
    lib = _library_for(x_TD, x_TD if other is None else other)
    if lib is None or x_TD.dim() != 2 or x_TD.stride(1) != 1:
        return None
    rows, width = x_TD.shape
    out = torch.empty(rows, width, dtype=x_TD.dtype)
    lib.cs_gate(
        *(x_TD.data_ptr(), native.number_format(x_TD.dtype), rows, width, x_TD.stride(0)),
        *((None, 0) if other is None else (other.data_ptr(), other.stride(0))),
        *(factor, out.data_ptr(), native.threads()),
    )
    return out


def rotate_reference(x_THC: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Defines `rotate`."""
    x = x_THC.float()
    low, high = x.chunk(2, dim=-1)
    turned = torch.cat((-high, low), dim=-1)
    return (x * cosines + turned * sines).to(x_THC.dtype)


def rotate(x_THC: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn every head in float32: channel i with channel i + C/2 (facts, 5.3 and 6.4).

    cosines, sines: (T, 1, C), of one angle for both channels of a pair.
    """
    if torch.is_grad_enabled() and x_THC.requires_grad:
        turned: Tensor = _Rotation.apply(x_THC, cosines, sines)  # type: ignore[no-untyped-call]
        return turned
    lib = _library_for(x_THC, cosines)
    rows, heads, width = x_THC.shape
    plain = x_THC.stride(2) == 1 and width % 2 == 0 and width <= _MOST_CHANNELS
    tables = all(
        t.shape == (rows, 1, width) and t.is_contiguous() and t.dtype == torch.float32 for t in (cosines, sines)
    )
    if lib is None or not plain or not tables:
        return rotate_reference(x_THC, cosines, sines)
    out = torch.empty(rows, heads, width, dtype=x_THC.dtype)
    lib.cs_rotate(
        *(x_THC.data_ptr(), native.number_format(x_THC.dtype), rows, heads, width, x_THC.stride(0), x_THC.stride(1)),
        *(cosines.data_ptr(), sines.data_ptr(), out.data_ptr(), native.threads()),
    )
    return out


class _Rotation(torch.autograd.Function):
    """The gradient of a rotation is the rotation back, so that nothing but the tables is kept and both are one pass."""

    @staticmethod
    def forward(ctx: Any, x_THC: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return rotate(x_THC, cosines, sines)

    @staticmethod
    def backward(ctx: Any, gradient_THC: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return rotate(gradient_THC, cosines, -sines), None, None


def _library_for(x: Tensor, other: Tensor) -> ctypes.CDLL | None:
    """The kernels, if they can serve these inputs."""
    return _library() if native.serves(x, other) else None


@cache
def _library() -> ctypes.CDLL | None:
    lib = native.library()
    if lib is not None:
        number, size, pointer, real = ctypes.c_int, ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_float
        rows = (pointer, number, size, size, size)
        lib.cs_rms_norm.argtypes = (*rows, pointer, real, pointer, number)
        lib.cs_gate.argtypes = (*rows, pointer, size, real, pointer, number)
        lib.cs_rotate.argtypes = (*rows, size, size, pointer, pointer, pointer, number)
        lib.cs_layer_norm.argtypes = (*rows, pointer, pointer, real, pointer, number)
        lib.cs_add.argtypes = (pointer, pointer, number, size, pointer, number)
        for function in (lib.cs_layer_norm, lib.cs_add, lib.cs_rms_norm, lib.cs_gate, lib.cs_rotate):
            function.restype = None
    return lib
