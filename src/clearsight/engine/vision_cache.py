"""Embeddings of temporal slots, kept for the next question about the same picture; bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor


class VisionCache:
    """Least recently used slots go first. An entry is (tokens of the slot, D)."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: OrderedDict[bytes, Tensor] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: bytes) -> Tensor | None:
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return found

    def put(self, key: bytes, embeddings: Tensor) -> None:
        if key in self._entries or embeddings.nbytes > self._limit:
            return
        self._entries[key] = embeddings
        self.bytes += embeddings.nbytes
        while self.bytes > self._limit:
            _, old = self._entries.popitem(last=False)
            self.bytes -= old.nbytes
