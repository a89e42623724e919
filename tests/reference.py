"""The reference library's model beside ours, on the same random weights."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from clearsight.config import PRESETS, ModelConfig, SpecialTokens, TextConfig, VisionConfig, config_to_json
from clearsight.inputs import Grid, ModelInputs, VisionPatches
from clearsight.model.lora import Adapter, LoraLayer
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.weights import random_model
from clearsight.processor.positions import mrope_positions

TINY = ModelConfig(
    vision=VisionConfig(depth=2, embed_dim=32, num_heads=2, out_dim=32),
    text=TextConfig(
        hidden_size=32,
        intermediate_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        vocab_size=128,
        tie_word_embeddings=False,
        mrope_section=(1, 1, 2),
    ),
    tokens=SpecialTokens(
        end_of_text=100,
        im_start=101,
        im_end=102,
        vision_start=109,
        vision_end=110,
        vision_pad=111,
        image_pad=112,
        video_pad=113,
    ),
)


def shallow(name: str, layers: int = 2) -> ModelConfig:
    """A preset's true widths with few layers."""
    config = PRESETS[name]
    return replace(config, vision=replace(config.vision, depth=layers), text=replace(config.text, num_layers=layers))


def reference_config(config: ModelConfig) -> Any:
    return Qwen2VLConfig(**config_to_json(config))


def reference_model(ours: Qwen2VL) -> Any:
    """The reference model holding our weights, under its own newer names."""
    theirs = Qwen2VLForConditionalGeneration._from_config(reference_config(ours.config), dtype=ours.dtype).eval()
    state = {_newer_name(name): tensor for name, tensor in ours.state_dict().items()}
    if ours.config.text.tie_word_embeddings:
        state["lm_head.weight"] = ours.model.embed_tokens.weight
    theirs.load_state_dict(state, assign=True)
    return theirs


def _newer_name(name: str) -> str:
    """The inverse of `official_name`."""
    return re.sub(r"^visual\.", "model.visual.", re.sub(r"^model\.", "model.language_model.", name))


def make_inputs(config: ModelConfig, layout: list[int | Grid], seed: int = 0) -> ModelInputs:
    """Random inputs: a number is that many text tokens, a grid is a picture (t=1) or a video between its marks."""
    generator = torch.Generator().manual_seed(seed)
    merge = config.vision.merge_size
    ids: list[int] = []
    runs: list[tuple[int, Grid]] = []
    for item in layout:
        if isinstance(item, Grid):
            pad = config.tokens.image_pad if item.t == 1 else config.tokens.video_pad
            runs.append((len(ids) + 1, item))
            ids += [config.tokens.vision_start, *[pad] * item.tokens(merge), config.tokens.vision_end]
        else:
            ids += torch.randint(0, config.tokens.end_of_text, (item,), generator=generator).tolist()
    grids = tuple(grid for _, grid in runs)
    pixels = torch.randn(sum(grid.patches for grid in grids), config.vision.patch_dim, generator=generator)
    return ModelInputs(
        ids=torch.tensor(ids),
        positions=mrope_positions(len(ids), runs, merge),
        lengths=(len(ids),),
        vision=VisionPatches(pixels, grids) if grids else None,
        vision_starts=tuple(start for start, _ in runs),
    )


def reference_kwargs(config: ModelConfig, inputs: ModelInputs) -> dict[str, Any]:
    """Our single sequence in the reference's calling form, with our positions (facts, 6.2 on the video rule)."""
    kwargs: dict[str, Any] = {"input_ids": inputs.ids[None], "attention_mask": torch.ones_like(inputs.ids)[None]}
    kinds = (inputs.ids == config.tokens.image_pad).int() + 2 * (inputs.ids == config.tokens.video_pad).int()
    kwargs["mm_token_type_ids"] = kinds[None]
    if inputs.vision is None:
        return kwargs
    sizes = [grid.patches for grid in inputs.vision.grids]
    rows = inputs.vision.pixels.split(sizes)
    for kind, is_kind in (("", lambda g: g.t == 1), ("videos", lambda g: g.t > 1)):
        chosen = [(grid, row) for grid, row in zip(inputs.vision.grids, rows, strict=True) if is_kind(grid)]
        if chosen:
            suffix = "_videos" if kind else ""
            kwargs[f"pixel_values{suffix}"] = torch.cat([row for _, row in chosen])
            kwargs["video_grid_thw" if kind else "image_grid_thw"] = torch.tensor([list(grid) for grid, _ in chosen])
    return kwargs


def tiny_model(dtype: torch.dtype = torch.float32, seed: int = 0) -> Qwen2VL:
    return random_model(TINY, seed=seed, dtype=dtype)


def random_adapter(parts: tuple[str, ...], seed: int) -> Adapter:
    """A LoRA adapter for all linear layers of the tiny model whose names begin with one of `parts`."""
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: LoraLayer(
            torch.randn(3, module.in_features, generator=generator),
            torch.randn(module.out_features, 3, generator=generator),
            0.1,
        )
        for name, module in tiny_model().named_modules()
        if isinstance(module, nn.Linear) and name.startswith(parts) and name != "lm_head"
    }
    return Adapter(layers)
