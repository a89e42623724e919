"""The least time that a machine of given speed could take, from the model's shape alone.

All large products on bytes, attention in the faster of bfloat16 and float32 (which attention in 16-bit whole numbers
can undercut), and for each token of an answer its weights read once from memory.
"""

from __future__ import annotations

from clearsight.bench.cases import Case, grid_of
from clearsight.bench.machine import Machine
from clearsight.config import ModelConfig


def vision_seconds(case: Case, config: ModelConfig, machine: Machine) -> float:
    """The vision tower and its merger."""
    grid = grid_of(case, config)
    if grid is None:
        return 0.0
    vision, patches = config.vision, grid.patches
    width, cell = vision.embed_dim, vision.embed_dim * vision.merge_size**2
    layer = 4 * width**2 + 2 * vision.mlp_ratio * width**2
    merger = (cell**2 + cell * vision.out_dim) / vision.merge_size**2
    products = 2 * patches * (vision.depth * layer + merger + vision.patch_dim * width)
    attention = 4 * vision.depth * patches**2 * width
    return products / machine.byte_ops + attention / machine.float_ops


def prompt_seconds(case: Case, config: ModelConfig, machine: Machine) -> float:
    """Vision, then the language model over the prompt, up to the first token."""
    grid, text = grid_of(case, config), config.text
    tokens = case.text + (0 if grid is None else grid.tokens(config.vision.merge_size) + 2)
    products = 2 * tokens * layer_weights(config) + 2 * text.vocab_size * text.hidden_size
    attention = 2 * text.num_layers * tokens**2 * text.hidden_size
    return vision_seconds(case, config, machine) + products / machine.byte_ops + attention / machine.float_ops


def layer_weights(config: ModelConfig) -> int:
    """Weights in the linear layers of the language model, without its head."""
    text = config.text
    kv = text.num_kv_heads * text.head_dim
    layer = 2 * text.hidden_size**2 + 2 * text.hidden_size * kv + 3 * text.hidden_size * text.intermediate_size
    return text.num_layers * layer


def token_bytes(config: ModelConfig, layer_bits: float, head_bits: float) -> int:
    """Bytes read for one token: the layers and the head."""
    head = config.text.vocab_size * config.text.hidden_size
    return int(layer_weights(config) * layer_bits / 8 + head * head_bits / 8)
