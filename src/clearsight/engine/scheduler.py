"""Who computes what in the next step: admission, memory, chunks and preemption. No tensor is computed here."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from clearsight.engine.blocks import BlockPool
from clearsight.engine.identity import block_key
from clearsight.engine.sequence import Sequence, Slot
from clearsight.engine.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens [start, stop) of one sequence to compute, and guesses of what comes after them."""

    sequence: Sequence
    start: int
    stop: int
    drafts: tuple[int, ...] = ()

    @property
    def chooses(self) -> bool:
        """Whether all known tokens are computed after it, so that the next one can be chosen."""
        return self.stop == len(self.sequence.tokens)

    @property
    def length(self) -> int:
        return self.stop - self.start + len(self.drafts)


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. encode: slots whose embeddings are needed soonest, in order."""

    chunks: tuple[Chunk, ...]
    encode: tuple[tuple[Sequence, Slot], ...]


class Scheduler:
    """Waiting and running sequences. Whoever comes later in order gives way when memory is short."""

    def __init__(self, settings: EngineSettings, pool: BlockPool) -> None:
        self.settings = settings
        self.pool = pool
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.prefix_hit_tokens = 0
        self._waiting: list[tuple[tuple[int, int], Sequence]] = []

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        heapq.heappush(self._waiting, (sequence.order, sequence))

    def remove(self, sequence: Sequence) -> None:
        """Finished or cancelled: everything it holds is free again."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        else:
            self._waiting = [entry for entry in self._waiting if entry[1] is not sequence]
            heapq.heapify(self._waiting)

    def plan(self) -> Plan:
        """Answers in progress first, one token and its drafts each; prompts share what is left of the step."""
        self._admit()
        self.running.sort(key=lambda sequence: sequence.order)
        chunks: list[Chunk] = []
        budget = self.settings.step_tokens
        decoding = [sequence for sequence in self.running if sequence.decoding]
        prefilling = [sequence for sequence in self.running if not sequence.decoding]
        for left, sequence in zip(range(len(decoding), 0, -1), decoding, strict=True):
            # Every answer gets its token; drafts only take what the others leave.
            budget -= self._plan_chunk(chunks, sequence, 1, spare=budget - left)
        for sequence in prefilling:
            ready = self._ready(sequence)
            if ready and budget > 0:
                budget -= self._plan_chunk(chunks, sequence, min(ready, budget), spare=0)
        encode = tuple(
            (sequence, slot)
            for sequence in self.running
            for slot in sequence.slots
            if slot.stop > sequence.computed and slot.embeddings is None
        )
        return Plan(tuple(chunks), encode)

    def store(self, sequence: Sequence, computed: int) -> None:
        """Note that the first `computed` tokens are in the cache, and make their full blocks findable."""
        before = sequence.computed // self.pool_block
        sequence.computed = computed
        self._extend_keys(sequence)
        for index in range(before, computed // self.pool_block):
            self.pool.publish(sequence.blocks[index], sequence.chain[index + 1])
        sequence.drop_embeddings()

    @property
    def pool_block(self) -> int:
        return self.settings.block_size

    # --- admission and memory ------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self._waiting and len(self.running) < self.settings.max_running:
            sequence = self._waiting[0][1]
            self._share_prefix(sequence)
            if self._blocks_for(len(sequence.tokens) + 1) - len(sequence.blocks) > self.pool.available:
                self._release(sequence)
                return
            heapq.heappop(self._waiting)
            self.prefix_hit_tokens += sequence.computed
            if sequence.cached is None:
                sequence.cached = sequence.computed
            self.running.append(sequence)

    def _share_prefix(self, sequence: Sequence) -> None:
        """Take over blocks that already hold its beginning; the last token is always computed, for its scores."""
        self._extend_keys(sequence)
        for key in sequence.chain[1 : 1 + (len(sequence.tokens) - 1) // self.pool_block]:
            block = self.pool.share(key)
            if block is None:
                break
            sequence.blocks.append(block)
        sequence.computed = len(sequence.blocks) * self.pool_block

    def _extend_keys(self, sequence: Sequence) -> None:
        size = self.pool_block
        for index in range(len(sequence.chain) - 1, len(sequence.tokens) // size):
            start, stop = index * size, (index + 1) * size
            seen = [slot.key for slot in sequence.slots_in(start, stop)]
            positions = sequence.positions_of(start, stop)
            sequence.chain.append(block_key(sequence.chain[-1], sequence.tokens[start:stop], positions, seen))

    def _ready(self, sequence: Sequence) -> int:
        """How many of the next tokens could be computed: up to the first slot that is not encoded."""
        missing = [s.start for s in sequence.slots if s.stop > sequence.computed and s.embeddings is None]
        return max(0, min([len(sequence.tokens), *missing]) - sequence.computed)

    def _plan_chunk(self, chunks: list[Chunk], sequence: Sequence, length: int, spare: int) -> int:
        """Plan `length` tokens if memory can be had, plus drafts within `spare`; returns the tokens taken."""
        if sequence not in self.running:  # it gave way to one before it
            return 0
        start, stop = sequence.computed, sequence.computed + length
        planned = [chunk.sequence for chunk in chunks]
        if not self._make_room(sequence, stop, planned):
            return 0
        drafts: list[int] = []
        if sequence.drafter is not None and spare > 0 and stop == len(sequence.tokens):
            drafts = sequence.drafter.draft(min(spare, sequence.room - 1))
            fitting = len(sequence.blocks) * self.pool_block - stop + self.pool.available * self.pool_block
            drafts = drafts[:fitting]
        short = self._blocks_for(stop + len(drafts)) - len(sequence.blocks)
        if short > 0:
            sequence.blocks += self.pool.take(short)
        chunks.append(Chunk(sequence, start, stop, tuple(drafts)))
        return chunks[-1].length

    def _make_room(self, sequence: Sequence, tokens: int, planned: list[Sequence]) -> bool:
        """Preempt from the end of the order until `sequence` can hold `tokens`; False if it must wait or gave way."""
        while self._blocks_for(tokens) - len(sequence.blocks) > self.pool.available:
            victim = max((s for s in self.running if s not in planned), key=lambda s: s.order)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        self.preemptions += 1
        heapq.heappush(self._waiting, (sequence.order, sequence))

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
        for slot in sequence.slots:
            slot.embeddings = None

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.pool_block)
