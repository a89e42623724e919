"""Data-parallel training over processes: equal replicas, gradients summed in one message, optimiser work divided.

Started by `torchrun`, every process holds the whole model, computes its share of each batch and updates the parameters
that it owns; what it updated goes to the others. With one process every method here is a local operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

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
        dist.destroy_process_group()


class Replica:
    """`model`'s parameters and gradients as views of two flat buffers, ordered by the process that updates them.

    One flat message instead of one a parameter: a small model has hundreds of small ones.
    """

    def __init__(self, model: nn.Module) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)
        shares = _divide(list(model.parameters()), self.size)
        self._parameters = [parameter for share in shares for parameter in share]
        self._own = {id(parameter) for parameter in shares[self.rank]}
        self._values = torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters])
        self.gradient = torch.zeros_like(self._values)
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, values in zip(self._parameters, torch.split(self._values, sizes), strict=True):
            parameter.data = values.view_as(parameter)
        self._slices = torch.split(self._values, [sum(p.numel() for p in share) for share in shares])
        self._gradients = [
            g.view_as(p) for p, g in zip(self._parameters, torch.split(self.gradient, sizes), strict=True)
        ]
        self.clear()
        self.share_values()

    def clear(self) -> None:
        """Zero gradients, ready to be added to."""
        self.gradient.zero_()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def keep_own_gradients(self) -> None:
        """Leave gradients to the parameters that this process updates: optimisers pass over the others."""
        for parameter in self._parameters:
            if id(parameter) not in self._own:
                parameter.grad = None

    def share_values(self) -> None:
        """Give every process what each owner has updated."""
        if self.size > 1:
            for owner, values in enumerate(self._slices):
                dist.broadcast(values, src=owner)

    def gather(self, optimizer: torch.optim.Optimizer) -> dict[str, object] | None:
        """The whole state of an optimiser whose parts lie with the owners; on the first process only."""
        state = optimizer.state_dict()
        if self.size == 1:
            return state
        parts: list[dict[str, object]] | None = [{}] * self.size if self.rank == 0 else None
        dist.gather_object(state["state"], parts)
        if parts is None:
            return None
        return {**state, "state": {name: value for part in parts for name, value in part.items()}}


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
