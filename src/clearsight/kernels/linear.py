"""Products with quantised weights: int8 and int4 weights in groups, activations quantised to int8 on the fly.

A weight is u (unsigned, 4 or 8 bits), read as (u - zero) * scale, with a float16 scale and a zero point for each group
of neighbouring input channels of each output channel. Activations become signed bytes with one float32 scale for each
row and group, so a channel that is much larger than the others spoils its own group only. The one packed copy of a
weight serves one row at memory speed and many rows at the speed of the machine's byte products (native/linear.c).

Shape suffixes: T rows, N output channels, K input channels, G groups of input channels.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from clearsight.kernels import native

PANEL = 32  # output channels that lie together in the packed data
_STEP = 4  # input channels of one product instruction
GROUPS = (32, 64, 128, 256)


class NativeWeight(ctypes.Structure):
    """`cs_weight` of native/linear.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("data", "scales", "zeros", "bias")),
        ("outputs", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("zero", "bits", "group")),
    )


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight (N, K) packed for the kernels (layout: native/linear.c); N is filled up to whole panels.

    data: uint8 (panels, K/4, 128), or half as many steps for 4 bits. scales: float16 (panels, G, 32). zeros: uint8 like
    scales, or None for the middle of the range (8 or 128).
    """

    data: Tensor
    scales: Tensor
    zeros: Tensor | None
    bits: int
    group: int
    out_features: int
    in_features: int

    @property
    def zero(self) -> int:
        """The zero point where `zeros` is None."""
        return 1 << (self.bits - 1)

    def native(self, bias: Tensor | None) -> NativeWeight:
        """The weight and a bias (float32) for the kernels; it holds addresses, so keep the tensors."""
        return NativeWeight(
            *(self.data.data_ptr(), self.scales.data_ptr(), None if self.zeros is None else self.zeros.data_ptr()),
            *(None if bias is None else bias.data_ptr(), self.out_features, self.zero, self.bits, self.group),
        )

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.scales.nbytes + (0 if self.zeros is None else self.zeros.nbytes)


# --- packing -----------------------------------------------------------------------------------------------


def pack(
    levels_NK: Tensor, scales_NG: Tensor, zeros_NG: Tensor | None, *, bits: int, in_features: int | None = None
) -> QuantizedWeight:
    """Put weights u (N, K in whole groups, uint8) in the kernels' order. in_features: K without what fills it up."""
    rows, columns = levels_NK.shape
    groups = scales_NG.shape[1]
    panels = -(-rows // PANEL)

    def panelled(x: Tensor) -> Tensor:
        filled = x.new_zeros(panels * PANEL, x.shape[1])
        filled[:rows] = x
        return filled.view(panels, PANEL, -1)

    data = panelled(levels_NK).view(panels, PANEL, -1, _STEP).transpose(1, 2).reshape(panels, -1, PANEL * _STEP)
    if bits == 4:
        data = data[:, 0::2] | (data[:, 1::2] << 4)
    return QuantizedWeight(
        data=data.contiguous(),
        scales=panelled(scales_NG.half()).transpose(1, 2).contiguous(),
        zeros=None if zeros_NG is None else panelled(zeros_NG).transpose(1, 2).contiguous(),
        bits=bits,
        group=columns // groups,
        out_features=rows,
        in_features=in_features or columns,
    )


def unpack(weight: QuantizedWeight) -> tuple[Tensor, Tensor, Tensor]:
    """The inverse of `pack`: weights u (N, whole groups) uint8, scales (N, G) float32, zeros (N, G) uint8."""
    data, rows = weight.data, weight.out_features
    if weight.bits == 4:
        data = torch.stack((data & 15, data >> 4), dim=2)
    panels = data.shape[0]
    levels = data.reshape(panels, -1, PANEL, _STEP).transpose(1, 2).reshape(panels * PANEL, -1)[:rows]
    scales = weight.scales.transpose(1, 2).flatten(0, 1)[:rows].float()
    if weight.zeros is None:
        return levels, scales, torch.full_like(scales, weight.zero, dtype=torch.uint8)
    return levels, scales, weight.zeros.transpose(1, 2).flatten(0, 1)[:rows]


def dequantize(weight: QuantizedWeight) -> Tensor:
    """The weight (N, K) in float32 that `weight` stands for."""
    levels, scales, zeros = unpack(weight)
    grouped = levels.view(levels.shape[0], -1, weight.group).float() - zeros[:, :, None].float()
    return (grouped * scales[:, :, None]).flatten(1)[:, : weight.in_features]


def check_weight(weight: QuantizedWeight) -> None:
    """Raises ValueError unless the tensors have the sizes and kinds that the kernels rely on."""
    panels, groups = -(-weight.out_features // PANEL), -(-weight.in_features // weight.group)
    wanted = {
        "data": ((panels, groups * weight.group * weight.bits // (8 * _STEP), PANEL * _STEP), torch.uint8),
        "scales": ((panels, groups, PANEL), torch.float16),
        "zeros": ((panels, groups, PANEL), torch.uint8),
    }
    for name, (shape, dtype) in wanted.items():
        tensor = getattr(weight, name)
        if tensor is not None and (tuple(tensor.shape), tensor.dtype) != (shape, dtype):
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; {dtype} {shape} is needed")


# --- choosing scales ---------------------------------------------------------------------------------------

# Parts of a group's range tried as the range of its 4-bit weights: cutting off the extremes can lessen the error.
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


def quantize_weight_reference(weight_NK: Tensor, bits: int, group: int) -> QuantizedWeight:
    """Defines `quantize_weight`.

    8 bits: symmetric, the largest weight of a group becomes 127. 4 bits: with a zero point, the range (which holds 0)
    shrunk by whichever of SHRINKS gives the least squared error.
    """
    _check(bits, group)
    wide = _in_groups(weight_NK, group)
    if bits == 8:
        scales = (wide.abs().amax(-1) / 127).half()
        levels = _levels(wide, scales, torch.full_like(scales, 128), 255)
        return pack(levels.flatten(1), scales, None, bits=8, in_features=weight_NK.shape[1])
    low, high = wide.amin(-1).clamp(max=0), wide.amax(-1).clamp(min=0)
    best = torch.full_like(low, torch.inf, dtype=torch.float64)
    scales, zeros = torch.zeros_like(low).half(), torch.zeros_like(low)
    for shrink in SHRINKS:
        scale = ((high - low) * (shrink / 15)).half()
        zero = (-low * shrink / scale.float()).nan_to_num(0).round().clamp(0, 15)
        error = (_levels(wide, scale, zero, 15).float() - zero[..., None]) * scale.float()[..., None] - wide
        squared = error.double().square().sum(-1)
        better = squared < best
        best, scales, zeros = (
            torch.where(better, new, old) for new, old in ((squared, best), (scale, scales), (zero, zeros))
        )
    levels = _levels(wide, scales, zeros, 15)
    return pack(levels.flatten(1), scales, zeros.to(torch.uint8), bits=4, in_features=weight_NK.shape[1])


def quantize_weight(weight_NK: Tensor, bits: int, group: int) -> QuantizedWeight:
    """Quantise a weight (N, K) of any float dtype to 4 or 8 bits with one scale for each `group` input channels."""
    lib, number_format = _library(), native.number_format(weight_NK.dtype)
    if lib is None or number_format is None:
        return quantize_weight_reference(weight_NK, bits, group)
    _check(bits, group)
    if weight_NK.stride(1) != 1:
        weight_NK = weight_NK.contiguous()
    rows, columns = weight_NK.shape
    panels, groups = -(-rows // PANEL), -(-columns // group)
    data = torch.empty(panels, groups * group * bits // (8 * _STEP), PANEL * _STEP, dtype=torch.uint8)
    scales = torch.empty(panels, groups, PANEL, dtype=torch.float16)
    zeros = torch.empty(panels, groups, PANEL, dtype=torch.uint8) if bits == 4 else None
    shrinks, steps = torch.tensor(SHRINKS), torch.tensor([shrink / 15 for shrink in SHRINKS])
    lib.cs_quantize_weight(
        *(weight_NK.data_ptr(), number_format, rows, columns, weight_NK.stride(0), bits, group),
        *(shrinks.data_ptr(), steps.data_ptr(), len(SHRINKS), data.data_ptr(), scales.data_ptr()),
        *(None if zeros is None else zeros.data_ptr(), native.threads()),
    )
    return QuantizedWeight(data, scales, zeros, bits, group, rows, columns)


def _in_groups(x: Tensor, group: int) -> Tensor:
    """Rows (T, K) as (T, G, group) float32, the last group filled up with zeros."""
    return F.pad(x.float(), (0, -x.shape[1] % group)).view(x.shape[0], -1, group)


def _levels(wide: Tensor, scales: Tensor, zeros: Tensor, top: int) -> Tensor:
    quotients = (wide / scales.float()[..., None]).nan_to_num(0, 0, 0)
    return (quotients.round() + zeros.float()[..., None]).clamp(0, top).to(torch.uint8)


def _check(bits: int, group: int) -> None:
    if bits not in (4, 8) or group not in GROUPS:
        raise ValueError(f"weights of {bits} bits in groups of {group} are not supported; use 4 or 8, and {GROUPS}")


# --- the product -------------------------------------------------------------------------------------------


def quantize_rows(x_TK: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Activations as signed bytes (T, G, group) and scales (T, G) float32; the last group is filled with zeros."""
    wide = _in_groups(x_TK, group)
    largest = wide.abs().amax(-1)
    # Dividing a number by a tensor would multiply by a rounded reciprocal instead.
    inverse = torch.where(largest > 0, torch.full_like(largest, 127) / largest, 0.0)
    return (wide * inverse[..., None]).round().to(torch.int8), largest / 127


def quantized_linear_reference(x: Tensor, weight: QuantizedWeight, bias: Tensor | None = None) -> Tensor:
    """Defines `quantized_linear`. Products within a group are exact: float32 holds them as whole numbers."""
    flat = x.reshape(-1, x.shape[-1])
    bytes_TGK, scales_TG = quantize_rows(flat, weight.group)
    levels, scales_NG, zeros_NG = unpack(weight)
    centred_NGK = levels.view(levels.shape[0], -1, weight.group).float() - zeros_NG[..., None].float()
    total = torch.zeros(flat.shape[0], weight.out_features)
    for group in range(scales_NG.shape[1]):
        products = bytes_TGK[:, group].float() @ centred_NGK[:, group].T
        total += products * (scales_TG[:, group, None] * scales_NG[:, group])
    if bias is not None:
        total += bias
    return total.to(x.dtype).view(*x.shape[:-1], -1)


def quantized_linear(x: Tensor, weight: QuantizedWeight, bias: Tensor | None = None) -> Tensor:
    """x (..., K) float32 or bfloat16 times the weight, plus bias (N) float32. Returns (..., N) in the dtype of x."""
    lib = _library()
    number_format = native.number_format(x.dtype)
    if lib is None or number_format is None:
        return quantized_linear_reference(x, weight, bias)
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    count = rows.shape[0]
    out = torch.empty(*x.shape[:-1], weight.out_features, dtype=x.dtype)
    failed = lib.cs_linear(
        *(rows.data_ptr(), number_format, count, weight.in_features, rows.stride(0)),
        *(ctypes.byref(weight.native(bias)), out.data_ptr(), number_format, weight.out_features, native.threads()),
    )
    if failed:
        raise MemoryError(f"no memory to quantise {count} rows of {weight.in_features} activations")
    return out


@cache
def _library() -> ctypes.CDLL | None:
    lib = native.library()
    if lib is not None:
        number, size, pointer = ctypes.c_int, ctypes.c_ssize_t, ctypes.c_void_p
        lib.cs_linear.restype = number
        lib.cs_linear.argtypes = (
            *(pointer, number, size, size, size),  # x
            pointer,  # weight
            *(pointer, number, size, number),  # y and threads
        )
        lib.cs_quantize_weight.restype = None
        lib.cs_quantize_weight.argtypes = (
            *(pointer, number, size, size, size, number, number),  # weight
            *(pointer, pointer, number, pointer, pointer, pointer, number),  # tries, results and threads
        )
    return lib
