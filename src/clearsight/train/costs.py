"""What training costs: floating-point operations of a batch, the machine's peak, and the memory of a run."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from clearsight.config import ModelConfig
from clearsight.inputs import ModelInputs
from clearsight.train.optim import part_of


@dataclass(frozen=True, slots=True)
class Learning:
    """Which parts learn anything, and whether it is their own weights (not LoRA's)."""

    vision: bool
    merger: bool
    language: bool
    weights: bool
    recompute: bool = False
    words: bool = True
    """False: the tower learns alone, and the language model is not asked."""

    @staticmethod
    def of(model: nn.Module, recompute: bool = False, words: bool = True) -> Learning:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        parts = {part_of(name) for name in names}
        weights = not any(name.endswith(".lora_A") for name in names)
        return Learning("vision" in parts, "merger" in parts, "language" in parts, weights, recompute, words)

    def passes(self, part: str) -> int:
        """How often the products of a part are made: forward, for the gradient of its inputs, of its weights."""
        if part == "language" and not self.words:
            return 0
        reached = {"vision": self.vision, "merger": self.vision or self.merger, "language": True}[part]
        weights = self.weights and getattr(self, part)
        return 1 + (reached and self.recompute and part != "merger") + reached + weights


def training_flops(config: ModelConfig, inputs: ModelInputs, supervised: int, learning: Learning) -> float:
    """Floating-point operations of one forward and backward pass; a multiplication and an addition count as two."""
    slots = [g.h * g.w for g in inputs.vision.grids for _ in range(g.t)] if inputs.vision else []
    return flops(config, inputs.lengths, slots, supervised, learning)


def flops(
    config: ModelConfig, lengths: tuple[int, ...] | list[int], slots: list[int], supervised: int, learning: Learning
) -> float:
    """lengths: tokens of each sequence; slots: patches of each vision segment; supervised: tokens that are scored."""
    vision, text = config.vision, config.text
    tokens, patches = sum(lengths), sum(slots)
    kv_dim = text.num_kv_heads * text.head_dim
    block = (4 + 2 * vision.mlp_ratio) * vision.embed_dim**2
    seen = sum(length**2 for length in slots)
    tower = vision.depth * (2 * block * patches + 4 * vision.embed_dim * seen)
    tower += 2 * vision.patch_dim * vision.embed_dim * patches
    cell = vision.embed_dim * vision.merge_size**2
    merger = 2 * (cell**2 + cell * vision.out_dim) * patches / vision.merge_size**2
    width = text.hidden_size
    layer = 2 * width**2 + 2 * width * kv_dim + 3 * width * text.intermediate_size
    attended = sum(length**2 for length in lengths) / 2
    language = text.num_layers * (2 * layer * tokens + 4 * width * attended) + 2 * width * text.vocab_size * supervised
    return float(
        tower * learning.passes("vision") + merger * learning.passes("merger") + language * learning.passes("language")
    )


def machine_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Floating-point operations a second of large matrix products, as measured now with this process's threads."""
    side = 1024 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        begin = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - begin)
    return 2 * side**3 / best


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a training process, roughly: the weights, what learning adds to them, and what a pack leaves behind."""

    weights: int
    learning: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.learning + self.activations


def memory(
    config: ModelConfig, model: nn.Module, tokens: int, patches: int, supervised: int, learning: Learning, muon: bool
) -> Memory:
    """model: may be without memory behind its parameters; tokens, patches, supervised: of the largest pack."""
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    # Float32 values, gradients, and one (Muon) or two (AdamW) averages of them.
    state = 4 * learned * (1 + (1 if muon else 2))
    vision, text = config.vision, config.text
    # Bytes kept for the gradient by one block for one row: counted on the operations of the model's files, then raised
    # to what a step of nano was measured to take (docs/training.md).
    tower_row = 2 * (17 + 4 * vision.mlp_ratio) * vision.embed_dim
    layer_row = 2 * (22 * text.hidden_size + 6 * text.intermediate_size)
    depth = {"vision": vision.depth, "language": text.num_layers}
    if learning.recompute:
        tower = patches * (tower_row + 4 * vision.embed_dim * depth["vision"])
        layers = tokens * (layer_row + 4 * text.hidden_size * depth["language"])
    else:
        tower, layers = patches * tower_row * depth["vision"], tokens * layer_row * depth["language"]
    if not (learning.vision or learning.merger):
        tower = patches * tower_row
    scores = 10 * supervised * text.vocab_size
    return Memory(4 * learned + frozen, state, tower + layers + scores)
