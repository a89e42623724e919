"""Who holds which block of the KV cache, and which block holds what: bookkeeping without a tensor in sight."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable


class BlockPool:
    """Blocks 0..count-1, each free, held by one or more sequences, or idle: held by none but known by its content.

    An idle block is found again by its key until its place is needed; the longest idle goes first.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(
            range(count)
        )  # a heap: low numbers first, so neighbours in a sequence are neighbours in memory
        self._holders = [0] * count
        self._key_of: list[bytes | None] = [None] * count
        self._block_of: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that `take` could give now."""
        return len(self._free) + len(self._idle)

    @property
    def held(self) -> int:
        """Blocks that some sequence holds."""
        return self.count - self.available

    @property
    def filled(self) -> int:
        """Blocks with content, held or idle."""
        return self.count - len(self._free)

    def take(self, number: int) -> list[int]:
        """`number` empty blocks for one holder. The caller has looked at `available`."""
        assert number <= self.available, f"{number} blocks wanted, {self.available} available"
        while len(self._free) < number:
            block, _ = self._idle.popitem(last=False)
            self._forget(block)
            heapq.heappush(self._free, block)
        blocks = [heapq.heappop(self._free) for _ in range(number)]
        for block in blocks:
            self._holders[block] = 1
        return blocks

    def share(self, key: bytes) -> int | None:
        """The block with this content for one more holder, or None."""
        block = self._block_of.get(key)
        if block is not None:
            self._idle.pop(block, None)
            self._holders[block] += 1
        return block

    def publish(self, block: int, key: bytes) -> None:
        """Say what a full block holds; the first block of equal content is the one that is found."""
        if key not in self._block_of:
            self._block_of[key] = block
            self._key_of[block] = key

    def release(self, blocks: Iterable[int]) -> None:
        """One holder lets go. Later blocks become idle first, for a beginning is more often asked for than an end."""
        for block in reversed(list(blocks)):
            self._holders[block] -= 1
            assert self._holders[block] >= 0
            if self._holders[block] == 0:
                if self._key_of[block] is None:
                    heapq.heappush(self._free, block)
                else:
                    self._idle[block] = None

    def _forget(self, block: int) -> None:
        key = self._key_of[block]
        assert key is not None
        del self._block_of[key]
        self._key_of[block] = None
