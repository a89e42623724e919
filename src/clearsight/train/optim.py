"""Which parameters learn, how fast, and by which rule: Muon for the matrices of the blocks or AdamW for everything."""

from __future__ import annotations

import math

import torch
from torch import nn

from clearsight.model.precision import has_bfloat16, product_dtype
from clearsight.train.muon import Float32Muon
from clearsight.train.stage import Stage

# A patch's pixels are mostly alike, so every weight of its kernel pushes the same way and steps must be small.
_PATCH_KERNEL_SHARE = 0.1

HEADS = "heads"


def part_of(name: str) -> str:
    """The part of the model, as `Rates` has them, that the parameter `name` belongs to; or HEADS, which tell marks and
    places while it learns."""
    if name.startswith(("visual.sight.", "model.place.")):
        return HEADS
    if not name.startswith("visual."):
        return "language"
    return "merger" if name.startswith("visual.merger.") else "vision"


def _rate(name: str, stage: Stage) -> float:
    """Heads learn at the full rate whatever else does: what a frozen one says would lead the rest astray."""
    part = part_of(name)
    return 1.0 if part == HEADS else float(getattr(stage.rates, part))


def set_trainable(model: nn.Module, stage: Stage) -> None:
    """Freeze the parts whose rate is 0 and, with LoRA, all weights that are not its own; heads always learn.

    What learns is float32 from here on: small steps would be lost in less. Without LoRA everything is, so that frozen
    and learning parts fit each other. With it, frozen weights stay as they are if products are made in their format.
    """
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for name, parameter in model.named_parameters():
        chosen = stage.lora is None or name.endswith((".lora_A", ".lora_B"))
        if stage.linear_only:
            chosen = chosen and name in linear - {"lm_head.weight"}
        chosen = chosen or part_of(name) == HEADS
        parameter.requires_grad_(chosen and _rate(name, stage) > 0)
        device = torch.device("cpu") if parameter.is_meta else parameter.device  # meta: a plan for this machine
        if stage.lora is None or chosen or product_dtype(stage.precision, device) == torch.float32:
            parameter.data = parameter.data.float()


def make_optimizers(model: nn.Module, stage: Stage) -> list[torch.optim.Optimizer]:
    """Optimisers of everything that learns: Muon takes the matrices inside blocks and merger; embeddings, heads,
    biases, norms and the patch kernel go to AdamW.

    Each parameter group carries the `share` of the schedule's learning rate that it takes.
    """
    muon: dict[float, list[nn.Parameter]] = {}
    plain: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        share = _rate(name, stage) * (_PATCH_KERNEL_SHARE if "patch_embed" in name else 1.0)
        is_matrix = parameter.ndim == 2 and part_of(name) != HEADS and not any(p in name for p in ("embed", "lm_head"))
        if is_matrix and stage.optimizer == "muon":
            muon.setdefault(share, []).append(parameter)
        else:
            plain.setdefault((share, stage.weight_decay if is_matrix else 0.0), []).append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        groups = [{"params": found, "share": share} for share, found in sorted(muon.items(), reverse=True)]
        # match_rms_adamw scales Muon's step to AdamW's usual size, so one learning rate serves both.
        rule = torch.optim.Muon if has_bfloat16(next(iter(muon.values()))[0].device) else Float32Muon
        optimizers.append(rule(groups, lr=stage.lr, weight_decay=stage.weight_decay, adjust_lr_fn="match_rms_adamw"))
    if plain:
        groups = [
            {"params": found, "share": share, "weight_decay": decay}
            for (share, decay), found in sorted(plain.items(), reverse=True)
        ]
        optimizers.append(torch.optim.AdamW(groups, lr=stage.lr, betas=(0.9, 0.95), weight_decay=0.0))
    return optimizers


def learning_rate(step: int, stage: Stage) -> float:
    """Linear warm-up; then a plateau and a linear fall over the last `decay` share of the steps, or a cosine; never
    below a hundredth of the peak."""
    rise = min(1.0, (step + 1) / max(1, stage.warmup))
    if stage.schedule == "cosine":
        done = max(0.0, (step - stage.warmup) / max(1, stage.steps - stage.warmup))
        shape = 0.5 + 0.5 * math.cos(math.pi * min(1.0, done))
    else:
        shape = min(1.0, (stage.steps - step) / max(1.0, stage.decay * stage.steps))
    return stage.lr * rise * max(0.01, shape)


def set_learning_rate(optimizers: list[torch.optim.Optimizer], lr: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["share"]
