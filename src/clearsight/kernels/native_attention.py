"""The call into native/attention.c: bf16 attention of packed segments and of sequences in a block pool.

Shape suffixes: T query tokens (packed), H heads, K kv heads, C channels of one head, N blocks of a pool, B tokens of
one block.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from clearsight.kernels import native

_CHANNEL_STEP = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """Which rows belong together, for all layers of a pass. Sequence s has lengths[s] queries and contexts[s] keys.

    tables: where the keys lie in a pool, the blocks of each sequence (int32); None where keys lie side by side.
    """

    lengths: Sequence[int]
    contexts: Sequence[int]
    tables: Sequence[Tensor] | None = None
    _numbers: tuple[array[int], array[int]] = field(init=False, repr=False)
    _blocks: dict[int, Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", (array("i", self.lengths), array("i", self.contexts)))

    def addresses(self) -> tuple[int, int]:
        """Of the lengths and contexts as C integers."""
        lengths, contexts = self._numbers
        return lengths.buffer_info()[0], contexts.buffer_info()[0]

    def blocks(self, size: int) -> Tensor | None:
        """The blocks of all sequences one after another, for blocks of `size` tokens."""
        if self.tables is None:
            return None
        if size not in self._blocks:
            counted = zip(self.tables, self.contexts, strict=True)
            self._blocks[size] = torch.cat([table[: -(-context // size)] for table, context in counted])
        return self._blocks[size]


def supports(q_THC: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `attend` can take these: bf16 on the CPU without a gradient, neighbouring channels, 16 to a vector."""
    channels = q_THC.shape[-1]
    plain = all(x.stride(-1) == 1 and x.dtype == torch.bfloat16 for x in (q_THC, k, v))
    return plain and channels % _CHANNEL_STEP == 0 and native.serves(q_THC, k, v) and channels <= _most_channels()


def attend(q_THC: Tensor, k: Tensor, v: Tensor, layout: Layout, causal: bool) -> Tensor:
    """Attention (T, H, C); k and v are (T, K, C), or pools (N, B, K, C) where the layout has tables."""
    _, heads, channels = q_THC.shape
    lib = _library()
    assert lib is not None
    pooled = layout.tables is not None
    block = k.shape[1] if pooled else 0
    blocks = layout.blocks(block)
    out = torch.empty(q_THC.shape, dtype=torch.bfloat16)
    strides = (
        *(*q_THC.stride()[:2], *k.stride()[-3:-1], *v.stride()[-3:-1], *out.stride()[:2]),
        *((k.stride(0), v.stride(0)) if pooled else (0, 0)),
    )
    failed = lib.cs_attention(
        *(q_THC.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr()),
        *(_Strides(*strides), _Sizes(heads, k.shape[-2], channels, causal, block), channels**-0.5),
        *(*layout.addresses(), None if blocks is None else blocks.data_ptr(), len(layout.lengths), native.threads()),
    )
    if failed:
        raise MemoryError(f"no memory for attention over {sum(layout.contexts)} keys")
    return out


_Strides = ctypes.c_int64 * 10
_Sizes = ctypes.c_int32 * 5


@cache
def _most_channels() -> int:
    lib = _library()
    return 0 if lib is None else int(lib.cs_attention_channels())


@cache
def _library() -> ctypes.CDLL | None:
    lib = native.library()
    if lib is not None:
        number, pointer, real = ctypes.c_int, ctypes.c_void_p, ctypes.c_float
        lib.cs_attention.restype = number
        lib.cs_attention.argtypes = (
            *(pointer, pointer, pointer, pointer, pointer, pointer, real),
            *(pointer, pointer, pointer, number, number),
        )
        lib.cs_attention_channels.restype = number
    return lib
