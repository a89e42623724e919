"""What can be measured. Each runtime runs in a process of its own and is imported there alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Protocol

from clearsight.bench.cases import Case


@dataclass(frozen=True, slots=True)
class Answer:
    """When a request was handed in, and when each of its tokens was known (seconds of one clock)."""

    begin: float
    times: tuple[float, ...]

    @property
    def first_token(self) -> float:
        return self.times[0] - self.begin

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])


class Runtime(Protocol):
    """A loaded model. Answers are greedy, of exactly the length that the case asks for."""

    @property
    def token_bytes(self) -> int:
        """Bytes of weights that one pass over a single token reads."""

    def vision(self, case: Case) -> float:
        """Seconds from pixels to merged tokens."""

    def answer(self, case: Case) -> Answer:
        """One request, from what is known of earlier ones."""

    def answer_together(self, cases: Sequence[Case]) -> list[Answer]:
        """All at once, in the way that this runtime does it best."""


@dataclass(frozen=True, slots=True)
class Kind:
    """needs: packages without which it is left out. remembers: whether a second question can be the quicker one."""

    title: str
    module: str
    needs: tuple[str, ...] = ()
    options: Mapping[str, str] | None = None
    remembers: bool = True

    @property
    def installed(self) -> bool:
        return all(util.find_spec(name) is not None for name in self.needs)

    def load(self, folder: Path) -> Runtime:
        """The model in `folder`, a checkpoint in the official layout."""
        make: Callable[..., Runtime] = import_module(self.module).load
        return make(folder, **(self.options or {}))


_OURS, _PEER = "clearsight.bench.runtimes.ours", "clearsight.bench.runtimes.transformers"

KINDS = {
    "bf16": Kind("clearsight bf16", _OURS, options={"quantize": "none"}),
    "int8": Kind("clearsight int8", _OURS, options={"quantize": "int8"}),
    "int4": Kind("clearsight int4", _OURS, options={"quantize": "int4"}),
    "transformers": Kind("transformers bf16", _PEER, needs=("transformers",), remembers=False),
}
"""By the name that the command line knows."""
