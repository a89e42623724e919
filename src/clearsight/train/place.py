"""Knowing where: the language half learns where in its picture or video every visual token stands, how far from there
what it shows reaches, what the line of text begins with that it shows a part of, and, at a picture's end, its size.

The tower's rotary positions are relative (facts, 5.3), and the language half's turn a row by hundredths of a radian and
a column by less (facts, 6.4), so a small model finds places out of the order of tokens, if at all. Told where each
token stands, it has the place at hand where it attends to what is there; and a box is four places. In a video it is
told when, too. How many rows and columns there are, which a box's numbers are shares of, is known once the picture is
over, so the token that closes it is told. A row's name is read before its other cells and cannot know of them, so these
are told how the name begins, for whoever asks for it by one of them. And a coordinate is a division: the token before
its first digit is told what is divided, in eighths of a token, and by how many tokens, two layers before it has to say
the digit. A word of a question that is printed in the picture is told where. The heads that tell are thrown away
afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.train.example import Example
from clearsight.train.sight import NAMES, UNKNOWN
from clearsight.train.whereabouts import EDGES, MOST, PARTS, STEPS, sizes, targets

_AXES = 3
_LAYERS = 2  # of the language half, after which the place is known: those that follow can attend to it
_LATE_LAYERS = 3  # and after which, by the place, what the line begins with and where the last token stood
_LAST_LAYERS = 4  # and after which what is to be divided by that size
_WEIGHT = 8.0  # of a word or a coordinate, in visual tokens
# How many each head chooses from, some between several kinds at once.
_ANSWERS = {
    "slots": _AXES * MOST + EDGES * STEPS,
    "line": len(NAMES),
    "size": 2 * MOST,
    "spot": (PARTS + 1) * MOST,
    "word": 2 * MOST + len(NAMES),
}


def add_place(model: Qwen2VL) -> None:
    """Give the language half the heads that tell all this; at first they say nothing."""
    heads = nn.ModuleDict()
    for name, answers in _ANSWERS.items():
        head = nn.Linear(model.config.text.hidden_size, answers, device=model.device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        heads[name] = head
    model.model.add_module("place", heads)


def remove_place(model: Qwen2VL) -> None:
    del model.model.place


@contextmanager
def place_losses(model: Qwen2VL, batch: Example) -> Iterator[list[Tensor]]:
    """For one forward pass of `batch`: it adds to the list the cross-entropy of slot, row and column and, where
    `reach` knows them, the mean one of the edges and that of the line's beginning, in float32, summed over all visual
    tokens; the mean one of a picture's rows and columns, which weighs as much as all of its tokens do; and, each as
    much as eight tokens, those of what is divided and by what, where `spots` knows them, and of row, column and line
    of the words that are asked about. Nothing where there are no visual tokens or the model has no such heads.
    """
    found: list[Tensor] = []
    heads = dict(model.model.named_children()).get("place")
    if not isinstance(heads, nn.ModuleDict) or batch.inputs.vision is None:
        yield found
        return
    judge = _Judge(heads, batch, model.config.vision.merge_size)
    told = {
        _LAYERS: (judge.places,),
        _LATE_LAYERS: (judge.lines, judge.words, judge.sizes),
        _LAST_LAYERS: (judge.spots,),
    }
    hooks = [
        model.model.layers[:layers][-1].register_forward_hook(
            lambda _layer, _given, hidden_TD, losses=losses: found.extend(loss(hidden_TD) for loss in losses)
        )
        for layers, losses in told.items()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class _Judge:
    """The losses of what is told by the hidden states of `batch` after a layer, each 0 where nothing is known."""

    def __init__(self, heads: nn.ModuleDict, batch: Example, merge: int) -> None:
        assert batch.inputs.vision is not None
        self._heads, self._batch, self._merge = heads, batch, merge
        self._seen = batch.inputs.vision_slots(merge)
        self._lengths = torch.tensor([grid.tokens(merge) for grid in batch.inputs.vision.grids])

    def places(self, hidden_TD: Tensor) -> Tensor:
        told = self._scores("slots", hidden_TD, self._seen)
        wanted = targets(self._batch.inputs, self._merge).T  # the axes in turn
        loss = _known(told[:, : _AXES * MOST].reshape(-1, MOST), wanted)
        if self._batch.reach is not None:
            loss = loss + _known(told[:, _AXES * MOST :].reshape(-1, STEPS), self._batch.reach[:, :EDGES]) / EDGES
        return loss

    def lines(self, hidden_TD: Tensor) -> Tensor:
        if self._batch.reach is None:
            return hidden_TD.new_zeros(())
        return _known(self._scores("line", hidden_TD, self._seen), self._batch.reach[:, EDGES])

    def sizes(self, hidden_TD: Tensor) -> Tensor:
        """At the closing tokens, which follow all that is seen."""
        ends = torch.tensor(self._batch.inputs.vision_starts) + self._lengths
        told = self._scores("size", hidden_TD, ends).view(-1, MOST)
        wanted = sizes(self._batch.inputs, self._merge).T.flatten().to(told.device)
        each = F.cross_entropy(told, wanted, reduction="none").view(-1, 2).mean(1)
        return each @ self._lengths.to(each)  # a picture's size weighs as all of its tokens

    def words(self, hidden_TD: Tensor) -> Tensor:
        words = self._batch.words
        if words is None:
            return hidden_TD.new_zeros(())
        told = self._scores("word", hidden_TD, words[:, 0])
        places, lines = told[:, : 2 * MOST].reshape(-1, MOST), told[:, 2 * MOST :]
        return _WEIGHT * (_known(places, words[:, 1:3]) + _known(lines, words[:, 3]))

    def spots(self, hidden_TD: Tensor) -> Tensor:
        spots = self._batch.spots
        if spots is None:
            return hidden_TD.new_zeros(())
        told = self._scores("spot", hidden_TD, spots[:, 0])
        steps, size = told[:, : PARTS * MOST], told[:, PARTS * MOST :]
        return _WEIGHT * (_known(steps, spots[:, 1]) + _known(size, spots[:, 2]))

    def _scores(self, name: str, hidden_TD: Tensor, where: Tensor) -> Tensor:
        chosen_MD = hidden_TD[where.to(hidden_TD.device)].float()
        scores: Tensor = self._heads[name](F.rms_norm(chosen_MD, chosen_MD.shape[-1:]))
        return scores.float()


def _known(scores: Tensor, wanted: Tensor) -> Tensor:
    return F.cross_entropy(scores, wanted.flatten().to(scores.device), reduction="sum", ignore_index=UNKNOWN)
