"""One request at a time: prefill, then one token after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from clearsight.engine.cache import SequenceCache
from clearsight.engine.repetition import RepetitionGuard
from clearsight.engine.sampler import Sampler
from clearsight.inputs import ModelInputs, SamplingParams, TokenEvent
from clearsight.model.language import StepMeta
from clearsight.model.qwen2_vl import Qwen2VL


class Engine:
    """Runs a model. Nothing of a request is stored here: its cache and positions live in the call."""

    def __init__(self, model: Qwen2VL, stop_tokens: Sequence[int] | None = None) -> None:
        self.model = model
        tokens = model.config.tokens
        self.stop_tokens = frozenset((tokens.im_end, tokens.end_of_text) if stop_tokens is None else stop_tokens)

    def new_cache(self, capacity: int) -> SequenceCache:
        return SequenceCache(self.model.config.text, capacity, self.model.device, self.model.dtype)

    @torch.inference_mode()
    def forward(self, inputs: ModelInputs, cache: SequenceCache) -> Tensor:
        """Scores (V,) for the token after `inputs`, which continue the one sequence stored in `cache`."""
        hidden_TD = self.model(inputs, StepMeta(inputs.lengths, [cache.layers]))
        return self.model.logits(hidden_TD[-1:])[0]

    def generate(self, inputs: ModelInputs, params: SamplingParams) -> Iterator[TokenEvent]:
        """Tokens that follow the single sequence `inputs`; the last event carries the finish reason.

        Ends with "stop" (an end token, which is not part of the answer), "length" (max_tokens or the context is
        full) or "repetition". Closing the iterator early frees everything.
        """
        prompt = inputs.ids.shape[0]
        room = min(params.max_tokens, self.model.config.text.max_positions - prompt)
        if room <= 0:
            raise ValueError(
                f"the prompt has {prompt} tokens; the context of {self.model.config.text.max_positions} leaves no room"
            )
        cache = self.new_cache(prompt + min(room, 256))
        config = self.model.config
        sampler = Sampler(
            params, inputs.ids.to(self.model.device), config.text.vocab_size, config.tokens.never_generated
        )
        guard = RepetitionGuard() if params.repetition_guard else None
        position = inputs.next_position
        for made in range(1, room + 1):
            token = sampler.choose(self.forward(inputs, cache))
            if token in self.stop_tokens:
                yield TokenEvent(token, "stop")
                return
            if guard is not None and guard.push(token):
                yield TokenEvent(token, "repetition")
                return
            yield TokenEvent(token, "length" if made == room else None)
            inputs = ModelInputs(torch.tensor([token]), torch.full((3, 1), position), (1,))
            position += 1
