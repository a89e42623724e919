"""Muon for the matrices of the blocks, AdamW for everything else, one learning-rate schedule for both."""

from __future__ import annotations

import torch
from torch import nn


def make_optimizers(model: nn.Module, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Matrices inside blocks and merger go to Muon; embeddings, biases, norms and the patch kernel to AdamW.

    Each parameter group carries the `share` of the schedule's learning rate that it takes.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    patch_kernel: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if is_matrix else patch_kernel if "patch_embed" in name else others).append(parameter)
    # match_rms_adamw scales Muon's step to AdamW's usual size, so one learning rate serves both.
    muon = torch.optim.Muon(
        [{"params": matrices, "share": 1.0}], lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    # A patch's pixels are mostly alike, so every weight of its kernel pushes the same way and steps must be small.
    groups = [{"params": others, "share": 1.0}, {"params": patch_kernel, "share": 0.1}]
    adamw = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    return [muon, adamw]


def learning_rate(step: int, total: int, peak: float, warmup: int, decay: float) -> float:
    """Linear warm-up, a plateau, and a linear fall to a hundredth over the last `decay` share of the steps."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    left = (total - step) / max(1.0, decay * total)
    return peak * rise * max(0.01, min(1.0, left))
