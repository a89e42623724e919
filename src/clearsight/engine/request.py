"""What the engine is asked to do: one sequence to continue, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from clearsight.inputs import ModelInputs, SamplingParams


class Constraint(Protocol):
    """Which tokens an answer may take next (a JSON schema, a grammar, a choice). One object belongs to one request."""

    def allowed(self) -> Tensor:
        """(V,) bool on the CPU: True where the next token may stand; end tokens where the answer may end."""

    def advance(self, token: int) -> None:
        """Take the token that was chosen."""


class RequestTooLarge(ValueError):
    """A request can never run here: its prompt or its memory is above a limit, which the text names."""


class EngineFull(RuntimeError):
    """The queue is at its limit now; the same request may be taken later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One sequence `inputs` to continue.

    salt: the tenant; caches are shared only under equal salts. priority: lower runs first. constraint: what the answer
    must obey. adapter: name of a LoRA adapter that was added to the engine, or None.
    """

    inputs: ModelInputs
    params: SamplingParams
    salt: bytes = b""
    priority: int = 0
    constraint: Constraint | None = None
    adapter: str | None = None
