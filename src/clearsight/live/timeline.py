"""What a session's cache holds, piece by piece: system turn, blocks of frames, exchanges. No tensor but positions.

A conversation is a row of blocks. A block is a user turn: its opening, a video of zero or more slots between its marks,
then the exchange (question and answer) that closes it; the last block is open. When an exchange leaves, the videos
before and after it become one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from clearsight.inputs import Grid
from clearsight.processor.positions import mrope_positions


@dataclass(slots=True, eq=False)
class Piece:
    """Tokens that stay or leave together. time: of a slot, in seconds. seen: a slot's embeddings (T, D)."""

    ids: list[int]
    time: float = 0.0
    seen: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True, eq=False)
class Block:
    opening: Piece | None = None
    start: Piece | None = None
    slots: list[Piece] = field(default_factory=list)
    end: Piece | None = None
    exchange: Piece | None = None

    def pieces(self) -> Iterator[Piece]:
        if self.opening is not None:
            yield self.opening
        if self.start is not None:
            yield self.start
        yield from self.slots
        if self.end is not None:
            yield self.end
        if self.exchange is not None:
            yield self.exchange


class Timeline:
    """The order of pieces. slot_grid: patches of one slot, (1, h, w), the same for the whole session."""

    def __init__(self, system: Piece, slot_grid: Grid, merge: int, blocks: Sequence[Block] = ()) -> None:
        self.system = system
        self.slot_grid = slot_grid
        self.merge = merge
        self.blocks = list(blocks) or [Block()]

    @property
    def open(self) -> Block:
        """The block that the next frame belongs to."""
        return self.blocks[-1]

    @property
    def slots(self) -> list[Piece]:
        return [slot for block in self.blocks for slot in block.slots]

    @property
    def exchanges(self) -> list[Piece]:
        """Questions with their answers, oldest first."""
        return [block.exchange for block in self.blocks if block.exchange is not None]

    def pieces(self) -> Iterator[Piece]:
        yield self.system
        for block in self.blocks:
            yield from block.pieces()

    def __len__(self) -> int:
        return sum(map(len, self.pieces()))

    def ids(self) -> list[int]:
        return [token for piece in self.pieces() for token in piece.ids]

    def rows(self) -> dict[Piece, range]:
        """Where in the cache each piece lies."""
        found, at = {}, 0
        for piece in self.pieces():
            found[piece] = range(at, at + len(piece))
            at += len(piece)
        return found

    def positions(self, extra: int = 0) -> Tensor:
        """(3, T + extra): where each token stands, and text that may follow, by the rule for whole conversations."""
        rows = self.rows()
        runs = [
            (rows[block.slots[0]].start, self.slot_grid._replace(t=len(block.slots)))
            for block in self.blocks
            if block.slots
        ]
        return mrope_positions(len(self) + extra, runs, self.merge)

    def close(self, exchange: Piece, opening: Piece, end: Piece) -> list[Piece]:
        """Close the open block with a question; returns the new pieces in order."""
        block = self.open
        new = [exchange]
        if block.slots:
            block.end = end
            new.insert(0, end)
        elif block.opening is None:
            block.opening = opening
            new.insert(0, opening)
        block.exchange = exchange
        return new

    def reopen(self) -> None:
        """Begin the next block once the answer has ended."""
        self.blocks.append(Block())

    def grow(self, slot: Piece, opening: Piece, start: Piece) -> list[Piece]:
        """Add a slot to the open block; returns the new pieces in order."""
        block, new = self.open, [slot]
        if block.start is None:
            block.start = start
            new.insert(0, start)
        if block.opening is None:
            block.opening = opening
            new.insert(0, opening)
        block.slots.append(slot)
        return new

    def without(self, gone: Collection[Piece]) -> Timeline:
        """The timeline with some slots and exchanges left out; its pieces are ours, in the same order."""
        blocks, block = [], Block()
        for old in self.blocks:
            block.opening = block.opening or old.opening
            kept = [slot for slot in old.slots if slot not in gone]
            if kept:
                block.start = block.start or old.start
                block.end = old.end
            block.slots += kept
            if old.exchange is not None and old.exchange not in gone:
                block.exchange = old.exchange
                blocks.append(block)
                block = Block()
        # What comes last is open: frames may follow, so no mark stands behind them.
        block.end = None
        if not block.slots:
            block.opening = None
        return Timeline(self.system, self.slot_grid, self.merge, [*blocks, block])
