"""Training a model that does not fit in every process: PyTorch's FSDP2 holds a part of each parameter in each.

The methods are those of replica.py, which is faster for small models: it sends one message a step instead of three a
block, and divides Muon's work where here every process orthogonalises every matrix.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.train.errors import TrainingError
from clearsight.train.replica import joined


class Sharded:
    """The parameters of `model` in equal parts over all processes, gathered block by block when they are needed."""

    def __init__(self, model: Qwen2VL) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise TrainingError("--shard divides weights over processes; start them with torchrun")
        self.rank, self.size = joined()
        self._model = model
        for block in (*model.visual.blocks, *model.model.layers):
            fully_shard(block)
        fully_shard(model)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # Losses are divided by the tokens of all processes already, so gradients are summed, not averaged.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, in place."""
        dist.all_reduce(tensor)
        return tensor

    def collect_gradients(self, clip: float) -> float:
        """Scale the gradients, which the backward pass has summed, to a norm of at most `clip`; returns the norm."""
        gradients = [p.grad.to_local() for p in self._parameters if isinstance(p.grad, DTensor)]
        squares = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
        norm = self.add(squares).sqrt()
        torch._foreach_mul_(gradients, (clip / norm).clamp(max=1.0))
        return norm.item()

    def share_updates(self) -> None:
        """Gradients start from zero again; every process has updated its own part."""
        for parameter in self._parameters:
            parameter.grad = None

    def values(self) -> dict[str, Tensor]:
        """The parameters that learn, by name, each a part."""
        return {name: p.detach() for name, p in self._model.named_parameters() if p.requires_grad}

    def gather(self, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """The whole state of an optimiser; on the first process only, though every one must ask."""
        state = optimizer.state_dict()
        wholes = {number: {key: self.whole(value) for key, value in values.items()}
                  for number, values in state["state"].items()}  # fmt: skip
        return {**state, "state": wholes} if self.rank == 0 else None

    def restore(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """The inverse of `gather`: every process takes its part."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        parts = {number: {key: self.part(value, parameters[number]) for key, value in values.items()}
                 for number, values in state["state"].items()}  # fmt: skip
        optimizer.load_state_dict({**state, "state": parts})

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a tensor that is like a parameter; every process must ask."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def part(self, whole: Any, like: Tensor) -> Any:
        """What this process holds of a tensor that is like the parameter `like`; anything else as it is."""
        if not isinstance(like, DTensor) or not isinstance(whole, Tensor) or whole.shape != like.shape:
            return whole
        return distribute_tensor(whole, like.device_mesh, like.placements)
