"""One pass of the language model over the chunks of a plan.

Shape suffixes: T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from clearsight.engine.cache import KVPool, PagedStep
from clearsight.engine.scheduler import Chunk, Plan
from clearsight.kernels import native
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.row_adapters import row_adapters

# Multiply-adds of a pass up to which torch keeps to one thread. Its threads wait for each other after every product;
# of small ones a second thread gains little, and beside a busy program each wait lasts a turn of the scheduler.
SMALL_PASS = 1 << 27


class Runner:
    """Model and KV pool; nothing of a request is kept here."""

    def __init__(self, model: Qwen2VL, pool: KVPool) -> None:
        self._model = model
        self._pool = pool
        self._weights = sum(weight.numel() for weight in model.model.layers.parameters())

    def run(self, plan: Plan) -> list[Tensor | None]:
        """For each chunk the scores (1 + drafts, V) after its last token and after each draft, or None."""
        chunks = plan.chunks
        if not chunks:
            return []
        device = self._model.device
        x_TD = torch.cat([self._embed(chunk) for chunk in chunks])
        positions = torch.cat([c.sequence.positions_of(c.start, c.start + c.length) for c in chunks], dim=1)
        step = PagedStep(
            self._pool,
            [torch.tensor(chunk.sequence.blocks, dtype=torch.int32, device=device) for chunk in chunks],
            [chunk.length for chunk in chunks],
            [chunk.start + chunk.length for chunk in chunks],
        )
        adapters = row_adapters([(chunk.sequence.adapter, chunk.length) for chunk in chunks])
        with self._cores(x_TD.shape[0]):
            hidden_TD = self._model.model(x_TD, positions.to(device), step, adapters)
            return self._scores(chunks, hidden_TD)

    def _cores(self, rows: int) -> AbstractContextManager[None]:
        return native.alone() if rows * self._weights <= SMALL_PASS else nullcontext()

    def _embed(self, chunk: Chunk) -> Tensor:
        """Token embeddings (T, D) of a chunk with what the tower saw in the places of the vision pads."""
        sequence = chunk.sequence
        ids = [*sequence.tokens[chunk.start : chunk.stop], *chunk.drafts]
        x_TD = self._model.model.embed_tokens(torch.tensor(ids, device=self._model.device))
        for slot in sequence.slots_in(chunk.start, chunk.stop):
            first, last = max(slot.start, chunk.start), min(slot.stop, chunk.stop)
            assert slot.embeddings is not None
            seen = slot.embeddings[first - slot.start : last - slot.start]
            x_TD[first - chunk.start : last - chunk.start] = seen.to(x_TD.dtype)
        return x_TD

    def _scores(self, chunks: tuple[Chunk, ...], hidden_TD: Tensor) -> list[Tensor | None]:
        wanted, end = [], 0
        for chunk in chunks:
            end += chunk.length
            wanted.append(range(end - 1 - len(chunk.drafts), end) if chunk.chooses else range(0))
        rows = [row for places in wanted for row in places]
        if not rows:
            return [None] * len(chunks)
        logits_TV = self._model.logits(hidden_TD[torch.tensor(rows, device=hidden_TD.device)])
        parts = torch.split(logits_TV, [len(places) for places in wanted])
        return [part if len(places) else None for part, places in zip(parts, wanted, strict=True)]
