"""A stack of quantised decoder layers in one native call (native/decoder.c).

It does what the modules do one after another, with the same kernels and to the same bits; only the time between the
kernels is saved, which at one row is a third of a step.

Shape suffixes: T tokens, D width, H heads, K kv heads, C channels of one head, N blocks of a pool, B tokens of one
block.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from clearsight.kernels import native, native_attention
from clearsight.kernels.linear import NativeWeight, QuantizedWeight
from clearsight.kernels.native_attention import Layout

Product = tuple[QuantizedWeight, Tensor | None]
"""A weight and its bias (float32)."""

_PRODUCTS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """products: q, k, v, o, gate, up, down. Norms are bf16 (D)."""

    products: tuple[Product, ...]
    attention_norm: Tensor
    mlp_norm: Tensor


@dataclass(frozen=True, slots=True)
class PagedRows:
    """Where the rows of a pass are kept: keys[layer], values[layer] (N, B, K, C) and each row's place in them (int64).

    layout: which rows belong together.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    slots: Tensor
    layout: Layout


class Decoder:
    """The layers' weights as the kernel reads them. heads: of the queries; epsilon: of the norms."""

    def __init__(self, layers: Sequence[LayerWeights], heads: int, epsilon: float) -> None:
        self._layers = tuple(layers)  # keeps what the structures point at
        self._heads, self._epsilon = heads, epsilon
        self._native = (_Layer * len(layers))()
        for target, layer in zip(self._native, layers, strict=True):
            for name, (weight, bias) in zip(_PRODUCTS, layer.products, strict=True):
                setattr(target, name, weight.native(bias))
            target.attention_norm, target.mlp_norm = layer.attention_norm.data_ptr(), layer.mlp_norm.data_ptr()

    def run(self, x_TD: Tensor, cosines: Tensor, sines: Tensor, rows: PagedRows) -> Tensor:
        """The layers' output (T, D), before the last norm. cosines, sines: (T, 1, C) float32."""
        lib = _library()
        assert lib is not None
        out = x_TD.clone(memory_format=torch.contiguous_format)
        block, kv_heads, channels = rows.keys[0].shape[1:]
        blocks = rows.layout.blocks(block)
        assert blocks is not None
        for target, keys, values in zip(self._native, rows.keys, rows.values, strict=True):
            target.keys, target.values = keys.data_ptr(), values.data_ptr()
        inner = self._layers[0].products[-1][0].in_features
        described = _Pass(
            *(*out.shape, inner, self._heads, kv_heads, channels, block, len(rows.layout.lengths)),
            *(cosines.data_ptr(), sines.data_ptr(), rows.slots.data_ptr()),
            *(*rows.layout.addresses(), blocks.data_ptr(), self._epsilon, channels**-0.5, native.threads()),
        )
        if lib.cs_decoder(self._native, len(self._layers), ctypes.byref(described), out.data_ptr()):
            raise MemoryError(f"no memory for {out.shape[0]} rows of {len(self._layers)} layers")
        return out


def can_run(layers: Sequence[LayerWeights], channels: int) -> bool:
    """Whether `Decoder` takes these: bf16 norms, one group size for weights that share their input, native kernels."""
    if not native_attention.supports(*(torch.empty(1, 1, channels, dtype=torch.bfloat16),) * 3):
        return False
    for layer in layers:
        groups = [weight.group for weight, _ in layer.products]
        if len(set(groups[:3])) > 1 or groups[4] != groups[5]:
            return False
        if any(
            norm.dtype != torch.bfloat16 or not norm.is_contiguous() for norm in (layer.attention_norm, layer.mlp_norm)
        ):
            return False
    return True


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, NativeWeight) for name in _PRODUCTS),
        *((name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm", "keys", "values")),
    )


class _Pass(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_int64) for n in "rows width inner heads kv_heads channels block sequences".split()),
        *((n, ctypes.c_void_p) for n in "cosines sines slots lengths contexts tables".split()),
        *((n, ctypes.c_float) for n in ("epsilon", "scale")),
        ("threads", ctypes.c_int32),
    )


@cache
def _library() -> ctypes.CDLL | None:
    lib = native.library()
    if lib is not None:
        lib.cs_decoder.restype = ctypes.c_int
        lib.cs_decoder.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p)
    return lib
