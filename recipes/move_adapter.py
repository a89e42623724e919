"""Move an adapter to other weights of the same model: `python recipes/move_adapter.py ADAPTER OLD NEW OUT --rank 256`.

What the linear layers of an adapter were on OLD they become on NEW again, as nearly as the rank allows: it adds the
difference between the two as well. Blocks that only NEW has add nothing under it. So the adapters beside nano outlive a
further checkpoint without new training. Other weights (embeddings, norms, biases) stay NEW's, so measure what comes
out.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from clearsight.model.hub import read_config, resolve
from clearsight.model.lora import MAX_RANK, Adapter, LoraLayer, matched, read_adapter, write_adapter
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.weights import load_model
from clearsight.train.grow import ENDS

_IN_BLOCK = re.compile(r"(.+)\.\d+\..+")
"""The name of a layer in a block; before the block's number stands which half of the model it is in."""


def factors(change_NK: Tensor, rank: int) -> LoraLayer:
    """The nearest additions of that rank, or all of it, padded with zeros; halves in bfloat16."""
    left, sizes, right = torch.linalg.svd(change_NK, full_matrices=False)
    roots = sizes[:rank].sqrt()
    a, b = torch.zeros(rank, change_NK.shape[1]), torch.zeros(change_NK.shape[0], rank)
    a[: len(roots)] = roots[:, None] * right[:rank]
    b[:, : len(roots)] = left[:, :rank] * roots
    return LoraLayer(a.to(torch.bfloat16), b.to(torch.bfloat16), 1.0)


def moved(adapter: Adapter, old: Qwen2VL, new: Qwen2VL, rank: int) -> Adapter:
    """Layers to which the adapter adds nothing are NEW's. Raises WeightsError for one that is not there.

    In a half of the model that the adapter changes, blocks that only NEW has are undone.
    """
    before, after = matched(old, adapter), matched(new, adapter)
    layers = {
        name: factors(before[name].weight.float() + layer.delta() - after[name].weight.float(), rank)
        for name, layer in adapter.layers.items()
        if layer.delta().any()
    }
    known = dict(old.named_modules())
    changed = {match[1] for name in layers if (match := _IN_BLOCK.fullmatch(name))}
    for name, module in new.named_modules():
        further = isinstance(module, nn.Linear) and name.endswith(ENDS) and name not in known
        if further and (match := _IN_BLOCK.fullmatch(name)) and match[1] in changed:
            layers[name] = factors(-module.weight.float(), rank)
    return Adapter(layers, adapter.base)


def model_of(name: str) -> Qwen2VL:
    folder = resolve(name)
    return load_model(folder, read_config(folder), dtype=torch.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("old", help="the model it was trained on, a name or folder")
    parser.add_argument("new", help="the model it is wanted for")
    parser.add_argument("out", type=Path, help="folder of the moved adapter")
    parser.add_argument("--rank", type=int, default=256)
    arguments = parser.parse_args()
    if not 1 <= arguments.rank <= MAX_RANK:
        parser.error(f"--rank is {arguments.rank}; it must be from 1 to {MAX_RANK}")
    try:
        adapter = read_adapter(arguments.adapter)
        with torch.no_grad():
            adapter = moved(adapter, model_of(arguments.old), model_of(arguments.new), arguments.rank)
        write_adapter(adapter, arguments.out)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
