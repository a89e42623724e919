"""Vision tower and language model joined: the picture's tokens stand in for the pad tokens of the prompt."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearsight.config import ModelConfig
from clearsight.inputs import ModelInputs, VisionPatches
from clearsight.model.language import LanguageModel, PackedStep
from clearsight.model.row_adapters import RowAdapters
from clearsight.model.vision import VisionTower


class Qwen2VL(nn.Module):
    """Parameter names are the official checkpoints' own: visual.*, model.*, lm_head.* (facts, 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTower(config.vision)
        self.model = LanguageModel(config.text)
        tied = config.text.tie_word_embeddings
        # A tied head reads the embedding table, unless quantising has given it a packed copy.
        self.lm_head: nn.Module | None = (
            None if tied else nn.Linear(config.text.hidden_size, config.text.vocab_size, bias=False)
        )

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.embed_tokens.weight.dtype

    def encode_vision(self, patches: VisionPatches) -> Tensor:
        """Merged tokens (M, D) of all grids, in order."""
        return self.visual(VisionPatches(patches.pixels.to(self.device), patches.grids))

    def encode_vision_layers(
        self, patches: VisionPatches, adapters: RowAdapters | None = None
    ) -> Generator[None, None, Tensor]:
        """`encode_vision` in pieces that can be interleaved with other work: it yields after every layer."""
        return self.visual.layers(VisionPatches(patches.pixels.to(self.device), patches.grids), adapters)

    def embed(self, inputs: ModelInputs, seen_MD: Tensor | None = None) -> Tensor:
        """Token embeddings (T, D) with every run of vision pads replaced by what the tower saw (facts, 5.7).

        seen_MD: `encode_vision` of its patches, where that is known already.
        """
        x_TD = self.model.embed_tokens(inputs.ids.to(self.device))
        if inputs.vision is None:
            return x_TD
        slots = inputs.vision_slots(self.config.vision.merge_size)
        seen_MD = self.encode_vision(inputs.vision) if seen_MD is None else seen_MD
        return x_TD.index_copy(0, slots.to(self.device), seen_MD.to(x_TD.dtype))

    def forward(self, inputs: ModelInputs, seen_MD: Tensor | None = None) -> Tensor:
        """Hidden states (T, D) of packed sequences; `logits` turns the wanted rows into scores."""
        return self.model(self.embed(inputs, seen_MD), inputs.positions.to(self.device), PackedStep(inputs.lengths))

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """Scores (T, V) over the vocabulary."""
        if self.lm_head is None:
            return F.linear(hidden_TD, self.model.embed_tokens.weight)
        return self.lm_head(hidden_TD)
