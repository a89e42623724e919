"""Knowing where: the language half learns in which row and column of its picture every visual token stands.

The tower's rotary positions are relative (facts, 5.3), and the language half's turn a row by hundredths of a radian and
a column by less (facts, 6.4), so a small model finds places out of the order of tokens, if at all. Told where each
token stands, it has the place at hand where it attends to what is there. The head that tells is thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearsight.inputs import ModelInputs
from clearsight.model.qwen2_vl import Qwen2VL

MOST = 16
"""Rows and columns that are told apart; what stands further on counts as the last."""

_LAYERS = 2  # of the language half, after which the place is known: those that follow can attend to it
_HEAD = "place"


def targets(inputs: ModelInputs, merge_size: int = 2) -> Tensor:
    """(2, M) int64: row and column of each merged token in its own picture or frame, from 0 to MOST - 1."""
    assert inputs.vision is not None
    lengths = torch.tensor([grid.tokens(merge_size) for grid in inputs.vision.grids])
    firsts = torch.tensor(inputs.vision_starts).repeat_interleave(lengths)
    offsets = inputs.positions[1:, inputs.vision_slots(merge_size)] - inputs.positions[1:, firsts]
    return offsets.clamp(max=MOST - 1)


def add_place(model: Qwen2VL) -> None:
    """Give the language half the head that tells row and column; at first it says nothing."""
    head = nn.Linear(model.config.text.hidden_size, 2 * MOST, device=model.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model.model.add_module(_HEAD, head)


def remove_place(model: Qwen2VL) -> None:
    delattr(model.model, _HEAD)


@contextmanager
def place_losses(model: Qwen2VL, inputs: ModelInputs) -> Iterator[list[Tensor]]:
    """For one forward pass of `inputs`: it adds to the list the cross-entropy of rows and columns, in float32, summed
    over all visual tokens; nothing where there are none or the model has no such head."""
    found: list[Tensor] = []
    head = dict(model.model.named_children()).get(_HEAD)
    if head is None or inputs.vision is None:
        yield found
        return

    def judge(_layer: nn.Module, _given: object, hidden_TD: Tensor) -> None:
        merge = model.config.vision.merge_size
        seen_MD = hidden_TD[inputs.vision_slots(merge).to(hidden_TD.device)].float()
        scores = head(F.rms_norm(seen_MD, seen_MD.shape[-1:])).float().view(-1, MOST)  # rows and columns in turn
        wanted = targets(inputs, merge).T.flatten().to(scores.device)
        found.append(F.cross_entropy(scores, wanted, reduction="sum"))

    hook = model.model.layers[_LAYERS - 1].register_forward_hook(judge)
    try:
        yield found
    finally:
        hook.remove()
