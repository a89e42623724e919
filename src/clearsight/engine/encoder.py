"""The vision tower as work that can wait: one batch of slots at a time, some layers a step."""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from torch import Tensor

from clearsight.engine.sequence import Sequence, Slot
from clearsight.engine.vision_cache import VisionCache
from clearsight.inputs import Grid, VisionPatches
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.row_adapters import row_adapters

_BATCH_PATCHES = 4096  # more in one pass gains nothing and costs memory


@dataclass(slots=True)
class _Job:
    owners: list[tuple[Sequence, Slot]]
    tokens: list[int]
    patches: int
    layers: Generator[None, None, Tensor]


class VisionEncoder:
    """Encodes slots through the cache. At most one batch is under way; it goes on where the last step left it."""

    def __init__(self, model: Qwen2VL, cache: VisionCache) -> None:
        self._model = model
        self.cache = cache
        self._job: _Job | None = None

    def advance(self, wanted: Items[tuple[Sequence, Slot]], work: int) -> None:
        """Spend about `work` patch-layers, at least one layer, on `wanted`."""
        if self._job is None:
            self._begin(wanted)
        if self._job is None:
            return
        spent = 0
        while True:
            try:
                next(self._job.layers)
            except StopIteration as end:
                self._finish(self._job, end.value)
                return
            spent += self._job.patches
            if spent >= work:
                return

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence; a batch that nobody waits for any more is abandoned."""
        if self._job is not None and all(owner is sequence for owner, _ in self._job.owners):
            self._job = None

    def _begin(self, wanted: Items[tuple[Sequence, Slot]]) -> None:
        """What the cache knows is handed out at once; the first of the rest, up to a batch, become the next job."""
        owners: list[tuple[Sequence, Slot]] = []
        rows: list[VisionPatches] = []
        keys: set[bytes] = set()
        patches = 0
        for sequence, slot in wanted:
            known = None if slot.key in keys else self.cache.get(slot.key)
            if known is not None:
                slot.embeddings = known
                continue
            size = slot_patches(sequence, slot)
            if slot.key in keys or (owners and patches + size.pixels.shape[0] > _BATCH_PATCHES):
                continue
            keys.add(slot.key)
            owners.append((sequence, slot))
            rows.append(size)
            patches += size.pixels.shape[0]
        if owners:
            together = VisionPatches.concatenate(rows)
            tokens = [slot.stop - slot.start for _, slot in owners]
            parts = [(owner.adapter, size.pixels.shape[0]) for (owner, _), size in zip(owners, rows, strict=True)]
            layers = self._model.encode_vision_layers(together, row_adapters(parts))
            self._job = _Job(owners, tokens, patches, layers)

    def _finish(self, job: _Job, merged: Tensor) -> None:
        for (_, slot), embeddings in zip(job.owners, torch.split(merged, job.tokens), strict=True):
            slot.embeddings = embeddings.clone()  # a view would keep the whole batch alive
            self.cache.put(slot.key, slot.embeddings)
        self._job = None


def slot_patches(sequence: Sequence, slot: Slot) -> VisionPatches:
    """The rows of one temporal slot as a picture of its own."""
    vision = sequence.request.inputs.vision
    assert vision is not None
    grid = vision.grids[slot.grid_index]
    size = grid.h * grid.w
    start = sum(other.patches for other in vision.grids[: slot.grid_index]) + slot.slot_index * size
    return VisionPatches(vision.pixels[start : start + size], (Grid(1, grid.h, grid.w),))
