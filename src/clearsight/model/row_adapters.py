"""LoRA adapters chosen row by row: one pass serves rows of the plain model beside rows of any adapters.

Shape suffixes: T rows, K input and N output channels, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAdapter:
    """An adapter beside the model it was loaded for. factors: by layer, a (R, K) and scaling * b (N, R).

    sees: whether it changes the vision tower, so that it has embeddings of its own for every picture.
    """

    name: str
    factors: dict[nn.Module, tuple[Tensor, Tensor]]
    sees: bool

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes + b.nbytes for a, b in self.factors.values())


class RowAdapters:
    """Which rows of one pass belong to which adapter; `changed` adds what theirs ask for."""

    def __init__(self, parts: Sequence[tuple[LoadedAdapter | None, int]]) -> None:
        """parts: from the first row on, an adapter (None: the plain model) and how many rows it has."""
        self._parts = tuple(parts)
        self._rows: dict[LoadedAdapter, Tensor] = {}
        ranges: dict[LoadedAdapter, list[Tensor]] = {}
        start = 0
        for adapter, count in self._parts:
            if adapter is not None:
                ranges.setdefault(adapter, []).append(torch.arange(start, start + count))
            start += count
        for adapter, places in ranges.items():
            device = next(iter(adapter.factors.values()))[0].device
            self._rows[adapter] = torch.cat(places).to(device)

    def cells(self, size: int) -> RowAdapters:
        """The same for rows that each stand for `size` rows of this."""
        return RowAdapters([(adapter, count // size) for adapter, count in self._parts])

    def changed(self, layer: nn.Module, x_TK: Tensor, y_TN: Tensor) -> Tensor:
        """`y_TN`, which `layer` made of `x_TK`, with the adapters' share added in place."""
        for adapter, rows in self._rows.items():
            factors = adapter.factors.get(layer)
            if factors is not None:
                a_RK, b_NR = factors
                delta = F.linear(F.linear(x_TK[rows].to(a_RK.dtype), a_RK), b_NR)
                y_TN.index_add_(0, rows, delta.to(y_TN.dtype))
        return y_TN


def adapted(layer: nn.Module, x_TK: Tensor, adapters: RowAdapters | None) -> Tensor:
    """`layer(x_TK)`, with what the rows' adapters add to it."""
    y_TN: Tensor = layer(x_TK)
    return y_TN if adapters is None else adapters.changed(layer, x_TK, y_TN)


def row_adapters(parts: Sequence[tuple[LoadedAdapter | None, int]]) -> RowAdapters | None:
    """None where no row has an adapter, so that such passes cost nothing more."""
    return RowAdapters(parts) if any(adapter is not None for adapter, _ in parts) else None
