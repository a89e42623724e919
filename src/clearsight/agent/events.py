"""What happens in a run, as values: the agent yields them, a trajectory keeps the conversation they describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clearsight.agent.results import Result
from clearsight.messages import ToolCall


@dataclass(frozen=True, slots=True)
class Answered:
    """The model has spoken. seconds: of this answer. tokens: read and written for it."""

    step: int
    text: str
    calls: Sequence[ToolCall]
    seconds: float
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Returned:
    """A call has come back, or was refused."""

    step: int
    call: ToolCall
    result: Result
    seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over. reason: one word, "answered" if all went well. why: one sentence. text: the last answer's."""

    reason: str
    why: str
    text: str
    steps: int
    tokens: int
    seconds: float


Event = Answered | Returned | Finished
