"""Choosing the next token of one sequence from its scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clearsight.inputs import SamplingParams


class Sampler:
    """The settings of one request with the counts they need.

    The repetition penalty looks at prompt and answer; presence and frequency penalties at the answer alone, as the
    OpenAI protocol defines them.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Tensor, vocab_size: int, forbidden: Sequence[int]) -> None:
        self.params = params
        device = prompt_ids.device
        self._forbidden = torch.tensor(list(forbidden), dtype=torch.int64, device=device)
        self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self._seen[prompt_ids] = True
        self._counts = torch.zeros(vocab_size, dtype=torch.float32, device=device)
        self._generator = torch.Generator(device=device)
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)

    def choose(self, logits_V: Tensor) -> int:
        """The next token for scores (V,). Counts it for the penalties."""
        scores = self._penalised(logits_V.float())
        scores[self._forbidden] = float("-inf")
        if self.params.greedy:
            token = int(scores.argmax())
        else:
            probabilities = _filtered(scores / self.params.temperature, self.params).softmax(-1)
            token = int(torch.multinomial(probabilities, 1, generator=self._generator))
        self._seen[token] = True
        self._counts[token] += 1
        return token

    def _penalised(self, scores: Tensor) -> Tensor:
        params = self.params
        if params.repetition_penalty != 1.0:
            weaker = torch.where(scores > 0, scores / params.repetition_penalty, scores * params.repetition_penalty)
            scores = torch.where(self._seen, weaker, scores)
        if params.presence_penalty or params.frequency_penalty:
            penalty = params.frequency_penalty * self._counts + params.presence_penalty * (self._counts > 0)
            scores = scores - penalty
        return scores.clone()


def _filtered(scores: Tensor, params: SamplingParams) -> Tensor:
    """top-k, then top-p, then min-p: what falls outside gets minus infinity; the best token always stays."""
    if 0 < params.top_k < scores.numel():
        scores = scores.masked_fill(scores < scores.topk(params.top_k).values[-1], float("-inf"))
    if params.top_p < 1.0:
        ordered, index = scores.sort(descending=True)
        probabilities = ordered.softmax(-1)
        # A token stays while the ones before it have not yet gathered top_p.
        outside = probabilities.cumsum(-1) - probabilities >= params.top_p
        outside[0] = False
        scores = scores.masked_fill(torch.zeros_like(outside).scatter(0, index, outside), float("-inf"))
    if params.min_p > 0.0:
        probabilities = scores.softmax(-1)
        scores = scores.masked_fill(probabilities < params.min_p * probabilities.max(), float("-inf"))
    return scores
