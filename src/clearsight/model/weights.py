"""Weights in and out: strict, memory-mapped safetensors in the official layout (facts, 2). No pickle."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from clearsight.config import ModelConfig, config_to_json, read_json
from clearsight.model.qwen2_vl import Qwen2VL

# Splitting keeps every file easy to copy and to resume.
MAX_SHARD_BYTES = 4 * 1024**3


class WeightsError(ValueError):
    """The weights in a folder do not fit the model; the text names the file or tensor."""


def official_name(name: str) -> str:
    """The newer spelling of a parameter name turned into the published one (facts, 2)."""
    name = re.sub(r"^model\.visual\.", "visual.", name)
    return re.sub(r"^model\.language_model\.", "model.", name)


def check_dtype(dtype: torch.dtype) -> torch.dtype:
    """bfloat16 and float32 are safe; float16 overflows in the small model (facts, 13.18)."""
    if dtype not in (torch.bfloat16, torch.float32):
        raise WeightsError(f"dtype {str(dtype).removeprefix('torch.')} is not supported; use bfloat16 or float32")
    return dtype


def empty_model(config: ModelConfig) -> Qwen2VL:
    """The modules without memory behind their parameters."""
    with torch.device("meta"):
        return Qwen2VL(config)


def random_model(
    config: ModelConfig, *, seed: int = 0, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Qwen2VL:
    """A model of true shape with random weights: for training from nothing, benchmarks and tests."""
    model = empty_model(config).to(check_dtype(dtype)).to_empty(device=device)
    generator = torch.Generator(device=device).manual_seed(seed)
    for module in model.modules():
        _randomize(module, generator)
    return model.eval()


@torch.no_grad()
def _randomize(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, (nn.Linear, nn.Conv3d)):
        bound = module.weight[0].numel() ** -0.5
        module.weight.uniform_(-bound, bound, generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(0.0, 0.02, generator=generator)
    elif isinstance(module, nn.LayerNorm):
        module.reset_parameters()
    elif hasattr(module, "eps"):
        nn.init.ones_(module.weight)  # type: ignore[arg-type]  # RMSNorm


def load_model(
    folder: Path, config: ModelConfig, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Qwen2VL:
    """Load a checkpoint folder. dtype None keeps the stored one. Raises WeightsError naming what does not fit.

    On the CPU in the stored dtype the parameters are views of the mapped files: no second copy is made.
    """
    model = empty_model(config)
    fill(model, read_tensors(folder), folder, device=device, dtype=dtype)
    return model.requires_grad_(False).eval()


def fill(
    model: Qwen2VL,
    tensors: Iterable[tuple[str, Tensor]],
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> None:
    """Give every parameter of `model` its tensor. Raises WeightsError for one unknown, missing or of another shape."""
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if name == "lm_head.weight" and model.config.text.tie_word_embeddings:
            continue  # a tied head stored all the same equals the embedding (facts, 13.23)
        if name not in wanted:
            raise WeightsError(f"{folder}: unknown tensor {name!r}")
        if tuple(tensor.shape) != wanted[name]:
            raise WeightsError(f"{folder}: tensor {name!r} has shape {tuple(tensor.shape)}; {wanted[name]} is needed")
        found[name] = tensor.to(device=device, dtype=check_dtype(dtype or tensor.dtype))
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise WeightsError(f"{folder}: {len(missing)} of {len(wanted)} tensors are missing, first {missing[0]!r}")
    model.load_state_dict(found, strict=False, assign=True)  # what is not a parameter is in place already


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a checkpoint folder under their published names; views of the mapped files."""
    seen: dict[str, Path] = {}
    for path in _files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for stored in file.keys():  # noqa: SIM118  (not a mapping)
                    name = official_name(stored)
                    if name in seen:
                        raise WeightsError(f"tensor {name!r} is in both {seen[name]} and {path}")
                    seen[name] = path
                    yield name, file.get_tensor(stored)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        single = folder / "model.safetensors"
        if not single.exists():
            raise WeightsError(f"{folder} holds neither model.safetensors nor {index.name}")
        return [single]
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{index} is not a weight index: {error!r}") from error
    paths = [folder / name for name in names]
    for path in paths:
        if path.parent != folder or path.suffix != ".safetensors":
            raise WeightsError(f"{index} names {path.name!r}, which is not a safetensors file beside it")
        if not path.exists():
            raise WeightsError(f"{path} is missing; {index.name} names it")
    return paths


def save_model(
    model: Qwen2VL, folder: Path, *, dtype: torch.dtype = torch.bfloat16, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write config.json and safetensors as published checkpoints have them; each file appears whole or not at all."""
    tensors = {name: p.detach().to("cpu", check_dtype(dtype)).contiguous() for name, p in model.named_parameters()}
    save_files(tensors, folder, max_shard_bytes=max_shard_bytes)
    config = {**config_to_json(model.config), "torch_dtype": str(dtype).removeprefix("torch.")}
    write_json(folder / "config.json", config)


def save_files(tensors: dict[str, Tensor], folder: Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write tensors as one safetensors file, or as several with an index; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = _split(tensors, max_shard_bytes)
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        draft = folder / f"{name}.tmp"
        save_file(shard, draft, metadata={"format": "pt"})
        os.replace(draft, folder / name)
    if len(shards) > 1:
        _write_index(folder, shards)


def _split(tensors: dict[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def _write_index(folder: Path, shards: list[dict[str, Tensor]]) -> None:
    count = len(shards)
    where = {
        name: f"model-{number:05d}-of-{count:05d}.safetensors"
        for number, shard in enumerate(shards, start=1)
        for name in shard
    }
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def write_json(path: Path, data: object) -> None:
    draft = path.with_suffix(".json.tmp")
    draft.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, path)
