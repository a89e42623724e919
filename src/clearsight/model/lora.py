"""LoRA adapters in PEFT's file format, read and written without PEFT.

An adapter adds scaling * B @ A to the weight (N, K) of some linear layers: A is (R, K), B is (N, R).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from clearsight.config import ConfigError, read_json
from clearsight.model.weights import WeightsError, official_name, write_json

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
MAX_RANK = 4096

_STORED = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight")

# Settings of PEFT that say how an adapter was trained or is stored, not what it computes.
_BOOKKEEPING = frozenset(
    "task_type auto_mapping peft_version base_model_name_or_path revision inference_mode target_modules"
    " exclude_modules lora_dropout init_lora_weights layers_to_transform layers_pattern megatron_core loftq_config"
    " eva_config corda_config lora_ga_config runtime_config qalora_group_size ensure_weight_tying".split()
)
_READ = frozenset("peft_type r lora_alpha rank_pattern alpha_pattern use_rslora bias".split())


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """What is added to one linear layer: scaling * b @ a, with a (R, K) and b (N, R)."""

    a: Tensor
    b: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def delta(self) -> Tensor:
        """The whole addition (N, K) in float32."""
        return self.scaling * (self.b.float() @ self.a.float())


@dataclass(frozen=True, slots=True)
class Adapter:
    """layers: by the name of the linear layer in our model, as in "model.layers.0.self_attn.q_proj".

    base: the name of the model that it was trained on, if known.
    """

    layers: Mapping[str, LoraLayer]
    base: str | None = None


def read_adapter(folder: Path) -> Adapter:
    """An adapter folder as PEFT and we write it. Raises WeightsError or ConfigError naming what is not understood."""
    settings = _read_settings(folder / CONFIG_FILE)
    halves: dict[str, dict[str, Tensor]] = {}
    for stored, tensor in _read_tensors(folder / WEIGHTS_FILE).items():
        match = _STORED.fullmatch(stored)
        if match is None:
            raise WeightsError(f"{folder / WEIGHTS_FILE}: unknown tensor {stored!r}")
        halves.setdefault(official_name(match["layer"]), {})[match["half"]] = tensor
    if not halves:
        raise WeightsError(f"{folder / WEIGHTS_FILE} holds no tensor")
    layers = {name: _layer(folder, name, parts, settings) for name, parts in halves.items()}
    return Adapter(layers, settings.get("base_model_name_or_path"))


def _layer(folder: Path, name: str, parts: dict[str, Tensor], settings: dict[str, Any]) -> LoraLayer:
    if parts.keys() != {"A", "B"}:
        raise WeightsError(f"{folder / WEIGHTS_FILE}: of {name!r} only lora_{min(parts)} is there")
    a, b = parts["A"], parts["B"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise WeightsError(
            f"{folder / WEIGHTS_FILE}: {name!r} has lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)}, which do"
            " not fit each other"
        )
    rank = _for_layer(name, settings.get("rank_pattern"), settings["r"])
    if a.shape[0] != rank:
        raise WeightsError(f"{folder / WEIGHTS_FILE}: {name!r} has rank {a.shape[0]}; its settings say {rank}")
    alpha = _for_layer(name, settings.get("alpha_pattern"), settings.get("lora_alpha", 8))
    return LoraLayer(a, b, alpha / (rank**0.5 if settings.get("use_rslora") else rank))


def _for_layer(name: str, pattern: Mapping[str, Any] | None, default: Any) -> Any:
    """A pattern names layers by the end of their name or a regular expression for it, as in PEFT."""
    for key, value in (pattern or {}).items():
        try:
            if re.fullmatch(rf"(.*\.)?({key})", name):
                return value
        except re.error as error:
            raise WeightsError(f"{CONFIG_FILE}: {key!r} is no regular expression ({error})") from error
    return default


def _read_settings(path: Path) -> dict[str, Any]:
    settings = read_json(path)
    if settings.get("peft_type") != "LORA":
        raise ConfigError(f"{path}: peft_type is {settings.get('peft_type')!r}; only 'LORA' is supported")
    rank, alpha = settings.get("r"), settings.get("lora_alpha", 8)
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise ConfigError(f"{path}: r is {rank!r}; it must be a whole number from 1 to {MAX_RANK}")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise ConfigError(f"{path}: lora_alpha is {alpha!r}; it must be a number")
    if settings.get("bias", "none") != "none":
        raise ConfigError(f"{path}: bias is {settings['bias']!r}; only 'none' is supported")
    for key, value in settings.items():
        if key not in _BOOKKEEPING | _READ and value not in (None, False, [], {}):
            raise ConfigError(f"{path}: setting {key!r} is {value!r}, which is not supported")
    return settings


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error


def matched(model: nn.Module, adapter: Adapter) -> dict[str, nn.Linear]:
    """The linear layer of `model` for each layer of the adapter.

    Raises WeightsError for a layer that the model does not have, or has in another shape.
    """
    found: dict[str, nn.Linear] = {}
    modules = dict(model.named_modules())
    for name, layer in adapter.layers.items():
        module = modules.get(name)
        if not isinstance(module, nn.Linear):
            raise WeightsError(f"the adapter changes {name!r}; the model has no linear layer of that name")
        wanted, shape = (module.out_features, module.in_features), (layer.b.shape[0], layer.a.shape[1])
        if shape != wanted:
            raise WeightsError(f"the adapter's {name!r} is for a layer of shape {shape}; the model's has {wanted}")
        found[name] = module
    return found


@torch.no_grad()
def merge(model: nn.Module, adapter: Adapter) -> None:
    """Add the adapter to the weights of `model`, each rounded once. Raises WeightsError for one that does not fit."""
    for name, module in matched(model, adapter).items():
        delta = adapter.layers[name].delta().to(module.weight.device)
        # Not in place: loaded weights are views of their files.
        merged = (module.weight.float() + delta).to(module.weight.dtype)
        module.weight = nn.Parameter(merged, requires_grad=module.weight.requires_grad)


def write_adapter(adapter: Adapter, folder: Path, *, dropout: float = 0.0) -> None:
    """Write the files that PEFT loads onto the reference library's model; all layers have one rank and scaling."""
    ranks, scalings = ({getattr(layer, name) for layer in adapter.layers.values()} for name in ("rank", "scaling"))
    (rank,), (scaling,) = ranks, scalings
    names = {name: _newer_name(name) for name in adapter.layers}
    tensors: dict[str, Tensor] = {}
    for name, layer in adapter.layers.items():
        for half, tensor in (("A", layer.a), ("B", layer.b)):
            tensors[f"base_model.model.{names[name]}.lora_{half}.weight"] = tensor.detach().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{WEIGHTS_FILE}.tmp"
    save_file(tensors, draft, metadata={"format": "pt"})
    os.replace(draft, folder / WEIGHTS_FILE)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": rank,
        "lora_alpha": scaling * rank,
        "lora_dropout": dropout,
        "bias": "none",
        "target_modules": sorted(names.values()),
        "inference_mode": True,
    }
    write_json(folder / CONFIG_FILE, settings)


def _newer_name(name: str) -> str:
    """The inverse of `official_name`: the reference library's own names, which PEFT looks for."""
    return re.sub(r"^visual\.", "model.visual.", re.sub(r"^model\.", "model.language_model.", name))
