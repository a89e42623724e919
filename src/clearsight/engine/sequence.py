"""One request on its way: its tokens, what of them is computed, and everything it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from clearsight.engine.repetition import RepetitionGuard
from clearsight.engine.request import Request
from clearsight.engine.sampler import Sampler
from clearsight.engine.speculation import Drafter
from clearsight.model.row_adapters import LoadedAdapter


@dataclass(slots=True)
class Slot:
    """One temporal slot of the prompt: tokens [start, stop), and its embeddings while they are needed."""

    start: int
    stop: int
    key: bytes
    grid_index: int
    slot_index: int
    embeddings: Tensor | None = None


@dataclass(slots=True, eq=False)
class Sequence:
    """State of a request. computed: tokens whose keys and values are stored. cached: those of them that were there when
    its turn first came. room: tokens it may still make."""

    id: int
    request: Request
    slots: list[Slot]
    sampler: Sampler
    guard: RepetitionGuard | None
    drafter: Drafter | None
    room: int
    chain: list[bytes]  # keys of its full blocks, with the root before them
    adapter: LoadedAdapter | None = None
    tokens: list[int] = field(init=False)
    positions: Tensor = field(init=False)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    cached: int | None = None
    made: int = 0
    _next_position: int = field(init=False)

    def __post_init__(self) -> None:
        inputs = self.request.inputs
        self.tokens = inputs.ids.tolist()
        self.positions = inputs.positions
        self._next_position = inputs.next_position

    @property
    def order(self) -> tuple[int, int]:
        """Whose turn comes first: lower priority values, then earlier arrival."""
        return self.request.priority, self.id

    @property
    def pending(self) -> int:
        """Tokens that must be computed before the next one can be chosen; 1 when only the newest is missing."""
        return len(self.tokens) - self.computed

    @property
    def decoding(self) -> bool:
        """Whether its prompt is done, so that it only takes a token at a time."""
        return self.made > 0 and self.pending == 1

    def append(self, token: int) -> None:
        self.tokens.append(token)
        self.made += 1
        self.room -= 1

    def positions_of(self, start: int, stop: int) -> Tensor:
        """(3, stop - start): those of the prompt, then equal on all axes and rising by one (facts, 6.5)."""
        prompt = self.positions.shape[1]
        known = self.positions[:, start : min(stop, prompt)]
        if stop <= prompt:
            return known
        first = max(start, prompt)
        made = torch.arange(first, stop) - prompt + self._next_position
        return torch.cat([known, made.expand(3, -1)], dim=1)

    def slots_in(self, start: int, stop: int) -> list[Slot]:
        """The slots that have tokens in [start, stop)."""
        return [slot for slot in self.slots if slot.start < stop and slot.stop > start]

    def drop_embeddings(self) -> None:
        """Let go of embeddings whose tokens are all computed."""
        for slot in self.slots:
            if slot.stop <= self.computed:
                slot.embeddings = None
