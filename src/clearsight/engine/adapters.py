"""Adapters put beside a model, so that each request can choose one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clearsight.model.lora import Adapter
from clearsight.model.row_adapters import LoadedAdapter
from clearsight.model.weights import WeightsError


def load_adapter(name: str, adapter: Adapter, model: nn.Module, dtype: torch.dtype) -> LoadedAdapter:
    """Put `adapter` beside `model`, whose layers may be quantised.

    Raises WeightsError for a layer that the model does not have, or has in another shape.
    """
    modules = dict(model.named_modules())
    factors: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    for path, layer in adapter.layers.items():
        module = modules.get(path)
        shape = (layer.b.shape[0], layer.a.shape[1])
        wanted = (getattr(module, "out_features", None), getattr(module, "in_features", None))
        if module is None or None in wanted or path == "lm_head":
            raise WeightsError(f"the adapter {name!r} changes {path!r}; only linear layers of the model can be adapted")
        if shape != wanted:
            raise WeightsError(
                f"the adapter {name!r} has {path!r} for a layer of shape {shape}; the model's is {wanted}"
            )
        device = next(model.parameters()).device
        a, b = (half.to(device=device, dtype=dtype) for half in (layer.a, layer.scaling * layer.b.float()))
        factors[module] = a.contiguous(), b.contiguous()
    return LoadedAdapter(name, factors, sees=any(path.startswith("visual.") for path in adapter.layers))
