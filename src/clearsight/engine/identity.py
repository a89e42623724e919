"""Content as 256-bit keys: what a temporal slot shows, and what a block of the KV cache holds (decision 6)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from torch import Tensor

from clearsight.inputs import ModelInputs, VisionPatches

SIZE = 32


def slot_keys(vision: VisionPatches, salt: bytes) -> list[list[bytes]]:
    """A key for every temporal slot of every grid: its pixel rows (all processing settings are in them) and its shape.

    Attention never crosses slots, so equal slots have equal embeddings wherever they stand.
    """
    rows, start, keys = vision.pixels.contiguous().numpy(), 0, []
    for grid in vision.grids:
        size = grid.h * grid.w
        shape = np.array([grid.h, grid.w], np.int64).tobytes()
        keys.append(
            [_digest(salt, shape, rows[at : at + size].data) for at in range(start, start + grid.patches, size)]
        )
        start += grid.patches
    return keys


def root_key(salt: bytes, adapter: str | None) -> bytes:
    """Where the chain of a tenant's block keys begins."""
    return _digest(salt, b"" if adapter is None else b"adapter " + adapter.encode())


def block_key(parent: bytes, ids: Sequence[int], positions: Tensor, seen: Sequence[bytes]) -> bytes:
    """The key of a full block: all before it, its tokens (ids), their positions (3, B), and the slots it shows."""
    return _digest(parent, np.array(ids, np.int64).tobytes(), positions.numpy().tobytes(), b"".join(seen))


def vision_spans(inputs: ModelInputs, merge_size: int, keys: list[list[bytes]]) -> list[tuple[int, int, bytes]]:
    """(first token, number of tokens, key) of every temporal slot in `inputs`, in order."""
    if inputs.vision is None:
        return []
    spans = []
    for start, grid, slots in zip(inputs.vision_starts, inputs.vision.grids, keys, strict=True):
        size = grid.h * grid.w // merge_size**2
        spans += [(start + index * size, size, key) for index, key in enumerate(slots)]
    return spans


def _digest(*parts: bytes | memoryview) -> bytes:
    """Each part goes in with its length, so that no two lists of parts read alike."""
    state = blake2b(digest_size=SIZE)
    for part in parts:
        size = part.nbytes if isinstance(part, memoryview) else len(part)
        state.update(size.to_bytes(8, "little"))
        state.update(part)
    return state.digest()
