"""Muon in float32, for machines on which PyTorch's spends most of a step in emulated bfloat16."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_EPS = 1e-7


class Float32Muon(torch.optim.Muon):
    """`torch.optim.Muon`, state and arguments included, but that matrices are orthogonalised in float32.

    PyTorch's does so in bfloat16 on every machine. A CPU without bfloat16 products takes 45 times as long for one as
    for the same in float32, and then the rule costs more than the gradients that it is applied to.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        direction = orthogonal(update, group["ns_coefficients"], group["ns_steps"])
        rows, columns = parameter.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            scale = 0.2 * math.sqrt(max(rows, columns))
        else:
            scale = math.sqrt(max(1.0, rows / columns))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """A matrix near to the orthogonal factor of `matrix` (R, C), by a quintic Newton-Schulz iteration in its dtype."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=_EPS)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x
