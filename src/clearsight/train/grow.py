"""Growing a trained model: further blocks that add nothing until they have learned."""

from __future__ import annotations

import torch

from clearsight.config import ModelConfig
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.weights import random_model

ENDS = ("attn.proj", "mlp.fc2", "self_attn.o_proj", "mlp.down_proj")
"""How the linear layers are called whose output a block adds to what it was given, in the tower and in the language
half."""


def grown(model: Qwen2VL, config: ModelConfig, seed: int = 0) -> Qwen2VL:
    """A model of `config`, like `model` but for further blocks at the end of its halves; it answers as `model` does.

    The weights that end the new blocks are zero, all others there random (`seed`). `model` is left as it is.
    """
    known = dict(model.named_parameters())
    larger = random_model(config, seed=seed, device=model.device, dtype=model.dtype)
    with torch.no_grad():
        for name, value in larger.named_parameters():
            if name in known:
                value.copy_(known[name])
            elif name.rpartition(".")[0].endswith(ENDS):
                value.zero_()
    return larger
