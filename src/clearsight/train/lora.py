"""LoRA while training: linear layers with a low-rank addition that learns, attached to a model and taken off again."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearsight.model.lora import Adapter, LoraLayer, matched
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.weights import empty_model
from clearsight.train.stage import Lora

_LANGUAGE = re.compile(r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)")
_MERGER = re.compile(r"visual\.merger\.mlp\.\d+")
_VISION = re.compile(r"visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])")


class LoraLinear(nn.Linear):
    """A linear layer, its weights under their own names, plus scaling * B(A(x)). A and B are float32."""

    def __init__(self, base: nn.Linear, rank: int, scaling: float) -> None:
        nn.Module.__init__(self)  # no weights of its own
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.scaling = scaling
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, device=base.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))

    def forward(self, input: Tensor) -> Tensor:
        narrow = F.linear(input, self.lora_A.to(input.dtype))
        added = F.linear(narrow, self.lora_B.to(input.dtype))
        return F.linear(input, self.weight, self.bias) + self.scaling * added


def attach(model: Qwen2VL, lora: Lora, *, seed: int = 0, start: Adapter | None = None) -> None:
    """Give the chosen layers of `model` their additions and freeze everything else.

    start: go on from this adapter, whose layers and ranks then decide. A new addition adds nothing: its B is zero.
    """
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    if start is not None:
        for name, base in matched(model, start).items():
            layer = start.layers[name]
            module = LoraLinear(base, layer.rank, layer.scaling)
            with torch.no_grad():
                module.lora_A.copy_(layer.a)
                module.lora_B.copy_(layer.b)
            _replace(model, name, module)
        return
    for name, base in list(model.named_modules()):
        if isinstance(base, nn.Linear) and _chosen(name, lora):
            module = LoraLinear(base, lora.rank, lora.alpha / lora.rank)
            bound = base.in_features**-0.5  # as PEFT starts A: Kaiming's uniform with a = sqrt(5)
            with torch.no_grad():
                drawn = torch.empty(module.lora_A.shape).uniform_(-bound, bound, generator=generator)
                module.lora_A.copy_(drawn)
            _replace(model, name, module)


def attached(model: nn.Module, base: str | None) -> Adapter:
    """The additions as an adapter; base: the name of the model without them."""
    return Adapter(
        {
            name: LoraLayer(module.lora_A.detach(), module.lora_B.detach(), module.scaling)
            for name, module in model.named_modules()
            if isinstance(module, LoraLinear)
        },
        base,
    )


def skeleton(model: Qwen2VL) -> Qwen2VL:
    """A model of the same shape and with the same additions, without memory behind its parameters."""
    empty = empty_model(model.config)
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            base = empty.get_submodule(name)
            assert isinstance(base, nn.Linear)
            _replace(empty, name, LoraLinear(base, module.lora_A.shape[0], module.scaling))
    return empty


def _chosen(name: str, lora: Lora) -> bool:
    return bool(_LANGUAGE.fullmatch(name) or _MERGER.fullmatch(name) or (lora.vision and _VISION.fullmatch(name)))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
