"""A running average of the weights: less noisy than the weights themselves, for one more copy of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """average <- decay * average + (1 - decay) * value after every step. decay 0: the values themselves."""

    def __init__(self, values: dict[str, Tensor], decay: float) -> None:
        self._values, self.decay = values, decay
        self.average = {name: value.clone() for name, value in values.items()} if decay else values

    @torch.no_grad()
    def update(self) -> None:
        if self.decay:
            for name, value in self._values.items():
                self.average[name].lerp_(value, 1 - self.decay)

    def restore(self, saved: dict[str, Tensor], place: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Go on from a saved average. place: makes of a whole tensor what a process holds of it, like its second
        argument."""
        if self.decay and saved:
            self.average = {name: place(saved[name], value).clone() for name, value in self._values.items()}

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """The model has the average for its weights meanwhile."""
        if not self.decay:
            yield
            return
        kept = {name: value.clone() for name, value in self._values.items()}
        self._copy(self.average)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def settle(self) -> None:
        """Make the average the model's weights for good."""
        if self.decay:
            self._copy(self.average)

    def _copy(self, source: dict[str, Tensor]) -> None:
        for name, value in self._values.items():
            value.copy_(source[name])
