"""Choosing the next token of one sequence from its scores.

Shape suffixes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clearsight.engine.request import Constraint
from clearsight.inputs import SamplingParams

_FIRST_LOOK = 256  # candidates sorted before all of the vocabulary is
_COLDEST = 1e-6  # a temperature below this has no better token left to prefer, and would overflow float32


class Choice(NamedTuple):
    """A token; if asked for, its logarithmic probability under the model itself and the best alternatives'."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """The settings of one request with the counts they need.

    The repetition penalty looks at prompt and answer; presence and frequency penalties at the answer alone, as the
    OpenAI protocol defines them. Draws depend on the request's own seed, never on what runs beside it.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Tensor,
        vocab_size: int,
        forbidden: Sequence[int],
        constraint: Constraint | None = None,
    ) -> None:
        """Raises ValueError if a logit bias names a token outside the vocabulary."""
        self.params = params
        device = prompt_ids.device
        self._constraint = constraint
        self._forbidden = torch.tensor(list(forbidden), dtype=torch.int64, device=device)
        self._bias = _bias(params, vocab_size, device)
        self._penalises = params.repetition_penalty != 1.0 or params.presence_penalty or params.frequency_penalty
        if self._penalises:
            self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            self._seen[prompt_ids] = True
            self._counts = torch.zeros(vocab_size, dtype=torch.float32, device=device)
        self._generator = torch.Generator(device=device)
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)

    def choose(self, logits_V: Tensor, ends: Collection[int] = ()) -> Choice:
        """The next token for scores (V,). Counts it for the penalties; a constraint is not told of `ends`."""
        logits = logits_V.float()
        scores = self._adjusted(logits)
        token = (
            int(scores.argmax()) if self.params.greedy else self._draw(scores / max(self.params.temperature, _COLDEST))
        )
        if self._penalises:
            self._seen[token] = True
            self._counts[token] += 1
        if self._constraint is not None and token not in ends:
            self._constraint.advance(token)
        return self._choice(token, logits)

    def _adjusted(self, scores: Tensor) -> Tensor:
        """Penalties, then biases, then what must not be chosen."""
        params = self.params
        if params.repetition_penalty != 1.0:
            weaker = torch.where(scores > 0, scores / params.repetition_penalty, scores * params.repetition_penalty)
            scores = torch.where(self._seen, weaker, scores)
        if params.presence_penalty or params.frequency_penalty:
            penalty = params.frequency_penalty * self._counts + params.presence_penalty * (self._counts > 0)
            scores = scores - penalty
        if self._bias is not None:
            scores = scores + self._bias
        scores = scores.index_fill(0, self._forbidden, float("-inf"))
        if self._constraint is not None:
            allowed = self._constraint.allowed().to(scores.device)
            scores = scores.masked_fill(~allowed, float("-inf"))
        return scores

    def _draw(self, scores: Tensor) -> int:
        """One token from what top-k, then top-p, then min-p leave; the best token always stays."""
        values, tokens = _best(scores, self.params)
        probabilities = values.softmax(-1)
        if self.params.min_p > 0.0:
            probabilities = probabilities * (probabilities >= self.params.min_p * probabilities[0])
        place = torch.multinomial(probabilities, 1, generator=self._generator)
        return int(tokens[place])

    def _choice(self, token: int, logits: Tensor) -> Choice:
        if self.params.logprobs is None:
            return Choice(token)
        logprobs = logits.log_softmax(-1)
        values, tokens = logprobs.topk(min(self.params.logprobs, logprobs.numel()))
        return Choice(token, float(logprobs[token]), tuple(zip(tokens.tolist(), values.tolist(), strict=True)))


def _bias(params: SamplingParams, vocab_size: int, device: torch.device) -> Tensor | None:
    if not params.logit_bias:
        return None
    bias = torch.zeros(vocab_size, device=device)
    for token, value in params.logit_bias:
        if not 0 <= token < vocab_size:
            raise ValueError(f"logit_bias names token {token}; tokens are 0 to {vocab_size - 1}")
        bias[token] = value
    return bias


def _best(scores: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Scores and tokens that top-k and top-p leave, best first. A whole vocabulary is sorted only if it must be."""
    count = scores.numel()
    if 0 < params.top_k < count:
        values, tokens = scores.topk(params.top_k)
        return _nucleus(values, tokens, params.top_p, values.logsumexp(-1))
    if params.top_p >= 1.0 and params.min_p == 0.0:
        return scores, torch.arange(count, device=scores.device)
    total = scores.logsumexp(-1)
    values, tokens = scores.topk(min(_FIRST_LOOK, count))
    enough_mass = (values - total).exp().sum() >= params.top_p
    enough_range = params.min_p > 0.0 and (values[-1] - values[0]).exp() < params.min_p
    if not (enough_mass and params.top_p < 1.0) and not enough_range:
        values, tokens = scores.sort(descending=True)
    return _nucleus(values, tokens, params.top_p, total)


def _nucleus(values: Tensor, tokens: Tensor, top_p: float, total: Tensor) -> tuple[Tensor, Tensor]:
    """The first tokens that together gather `top_p`; a token stays while those before it have not."""
    if top_p >= 1.0:
        return values, tokens
    probabilities = (values - total).exp()
    before = probabilities.cumsum(-1) - probabilities
    kept = max(1, int((before < top_p).sum()))
    return values[:kept], tokens[:kept]
