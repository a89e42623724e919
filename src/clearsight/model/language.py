"""The Qwen2 decoder with M-RoPE, over packed sequences; what they attend to is the step's affair (facts, 5.1).

Shape suffixes: T tokens, D width, H heads, K kv heads, C channels of one head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from clearsight.config import TextConfig
from clearsight.kernels.attention import packed_attention
from clearsight.kernels.decoder import Decoder, PagedRows
from clearsight.kernels.rowwise import rms_norm, swiglu
from clearsight.model.rope import Rope, mrope_table, rotate
from clearsight.model.row_adapters import RowAdapters, adapted


class Step(Protocol):
    """What one forward pass needs to know besides the tokens and their positions: who attends to what."""

    def attend(self, layer: int, q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor) -> Tensor:
        """Causal attention of the new rows of every sequence, (T, H, C)."""

    @property
    def rows(self) -> PagedRows | None:
        """Where the new rows' keys and values lie, for a stack that runs in one call; None where they are not kept."""


class PackedStep:
    """Whole sequences side by side, without a cache, as in training. lengths: tokens of each."""

    rows = None

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = tuple(lengths)

    def attend(self, _layer: int, q_THC: Tensor, k_TKC: Tensor, v_TKC: Tensor) -> Tensor:
        return packed_attention(q_THC, k_TKC, v_TKC, self.lengths, causal=True)


class RMSNorm(nn.Module):
    """Float32 inside, cast, then the weight: the reference's order of operations."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        kv_dim = config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, kv_dim)
        self.v_proj = nn.Linear(config.hidden_size, kv_dim)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x_TD: Tensor, rope: Rope, step: Step, adapters: RowAdapters | None = None) -> Tensor:
        q_THC, k_TKC, v_TKC = (
            adapted(project, x_TD, adapters).view(x_TD.shape[0], -1, self.head_dim)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q_THC, k_TKC = rotate(q_THC, rope), rotate(k_TKC, rope)
        out_THC = step.attend(self.layer, q_THC, k_TKC, v_TKC)
        return adapted(self.o_proj, out_THC.flatten(1), adapters)


class MLP(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_TD: Tensor, adapters: RowAdapters | None = None) -> Tensor:
        gate, up = (adapted(layer, x_TD, adapters) for layer in (self.gate_proj, self.up_proj))
        return adapted(self.down_proj, swiglu(gate, up), adapters)


class DecoderLayer(nn.Module):
    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, x_TD: Tensor, rope: Rope, step: Step, adapters: RowAdapters | None = None) -> Tensor:
        x_TD = x_TD + self.self_attn(self.input_layernorm(x_TD), rope, step, adapters)
        return x_TD + self.mlp(self.post_attention_layernorm(x_TD), adapters)


class LanguageModel(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        # Given its tensor, for drawing random numbers on the meta device makes torch import its compiler: 3 seconds.
        table = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=table)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.stack: Decoder | None = None  # all layers in one call, once they are quantised (quantize.py)

    def forward(self, x_TD: Tensor, positions: Tensor, step: Step, adapters: RowAdapters | None = None) -> Tensor:
        """Hidden states (T, D) after the last norm, for embedded tokens and their positions (3, T)."""
        rope = mrope_table(positions, self.config)
        if self.stack is not None and step.rows is not None and adapters is None:
            return self.norm(self.stack.run(x_TD, rope.cos, rope.sin, step.rows))
        for layer in self.layers:
            x_TD = layer(x_TD, rope, step, adapters)
        return self.norm(x_TD)
