"""Data-parallel training over processes: equal replicas, gradients summed in one message, optimiser work divided.

Started by `torchrun`, every process holds the whole model, computes its share of each batch and updates the parameters
that it owns; what it updated goes to the others. With one process every method here is a local operation. For models
that do not fit in every process there is sharded.py, with the same methods.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@contextmanager
def process_group() -> Iterator[None]:
    """Join the group that `torchrun` describes in the environment; without one this process is alone."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        # Sharded models hold the group in cycles, and a thread of it that lets go of a tensor only while the
        # interpreter ends aborts the process.
        gc.collect()
        dist.destroy_process_group()


def joined() -> tuple[int, int]:
    """(rank, number) of this process among those that train together."""
    together = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if together else (0, 1)


class Replica:
    """The parameters that learn, and their gradients, as views of two flat buffers, by the process that updates them.

    One flat message instead of one a parameter: a small model has hundreds of small ones.
    """

    def __init__(self, model: nn.Module) -> None:
        self.rank, self.size = joined()
        self._model = model
        shares = _divide([p for p in model.parameters() if p.requires_grad], self.size)
        self._parameters = [parameter for share in shares for parameter in share]
        self._own = {id(parameter) for parameter in shares[self.rank]}
        self._values = torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters])
        self._gradient = torch.zeros_like(self._values)
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, values in zip(self._parameters, torch.split(self._values, sizes), strict=True):
            parameter.data = values.view_as(parameter)
        self._slices = torch.split(self._values, [sum(p.numel() for p in share) for share in shares])
        self._gradients = [
            g.view_as(p) for p, g in zip(self._parameters, torch.split(self._gradient, sizes), strict=True)
        ]
        self._clear()
        self._share_values()

    def _clear(self) -> None:
        """Zero gradients, ready to be added to."""
        self._gradient.zero_()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def collect_gradients(self, clip: float) -> float:
        """Sum the gradients of all processes and scale them to a norm of at most `clip`; returns the norm before.

        Only the parameters that this process updates keep theirs: optimisers pass over the others.
        """
        self.add(self._gradient)
        norm = self._gradient.norm()
        self._gradient.mul_((clip / norm).clamp(max=1.0))
        for parameter in self._parameters:
            if id(parameter) not in self._own:
                parameter.grad = None
        return norm.item()

    def share_updates(self) -> None:
        """Give every process what each owner has updated; gradients start from zero again."""
        self._share_values()
        self._clear()

    def _share_values(self) -> None:
        if self.size > 1:
            for owner, values in enumerate(self._slices):
                dist.broadcast(values, src=owner)

    def values(self) -> dict[str, Tensor]:
        """The parameters that learn, by name."""
        return {name: p.detach() for name, p in self._model.named_parameters() if p.requires_grad}

    def gather(self, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """The whole state of an optimiser whose parts lie with the owners; on the first process only."""
        state = optimizer.state_dict()
        if self.size == 1:
            return state
        parts: list[dict[str, object]] | None = [{}] * self.size if self.rank == 0 else None
        dist.gather_object(state["state"], parts)
        if parts is None:
            return None
        return {**state, "state": {name: value for part in parts for name, value in part.items()}}

    def restore(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """The inverse of `gather`."""
        optimizer.load_state_dict(state)

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a tensor that is like a parameter; a replica has all of it."""
        return tensor

    def part(self, whole: Any, like: Tensor) -> Any:
        """What this process holds of a tensor that is like the parameter `like`: all of it."""
        return whole


def _divide(parameters: list[nn.Parameter], size: int) -> list[list[nn.Parameter]]:
    """Parameters in `size` shares of about equal work; orthogonalising a matrix costs its size times its short side."""
    shares: list[list[nn.Parameter]] = [[] for _ in range(size)]
    loads = [0] * size
    for parameter in sorted(parameters, key=_cost, reverse=True):
        lightest = loads.index(min(loads))
        shares[lightest].append(parameter)
        loads[lightest] += _cost(parameter)
    return shares


def _cost(parameter: nn.Parameter) -> int:
    return parameter.numel() * (min(parameter.shape) if parameter.ndim == 2 else 1)
