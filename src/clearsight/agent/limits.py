"""What an agent may use, and what it has used."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from clearsight.agent.chat import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """steps: answers of the model. seconds: of the whole run. tokens: read and written, summed over all answers.

    calls_per_step: further calls of one answer are refused. tool_seconds: of one call. result_chars: of one result.
    mistakes: answers in a row that achieve nothing (unreadable, refused, without effect). repeats: of one call in the
    same situation.
    """

    steps: int = 20
    seconds: float = 600
    tokens: int = 500_000
    calls_per_step: int = 8
    tool_seconds: float = 60
    result_chars: int = 20_000
    mistakes: int = 3
    repeats: int = 3

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) <= 0:
                raise ValueError(f"{item.name} is {getattr(self, item.name)}; it must be above 0")


@dataclass(slots=True)
class Budget:
    """Counts against the limits."""

    limits: AgentLimits
    clock: Callable[[], float] = time.monotonic
    steps: int = 0
    tokens: int = 0
    begin: float = field(init=False)

    def __post_init__(self) -> None:
        self.begin = self.clock()

    @property
    def seconds(self) -> float:
        return self.clock() - self.begin

    def spend(self, usage: Usage) -> None:
        self.steps += 1
        self.tokens += usage.prompt_tokens + usage.completion_tokens

    def exhausted(self) -> tuple[str, str] | None:
        """(which limit, a sentence) once one is reached."""
        for name in ("steps", "seconds", "tokens"):
            used, limit = getattr(self, name), getattr(self.limits, name)
            if used >= limit:
                return name, f"the limit of {limit:g} {name} is reached"
        return None
