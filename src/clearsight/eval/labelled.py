"""What evaluation needs to know of a sample: the conversation up to a turn, that turn as it should be, and the rule."""

from __future__ import annotations

from typing import Protocol

from clearsight.messages import Box, Message, Tool


class Labelled(Protocol):
    """A question with the one right answer. The values are those of clearsight.train.worlds.Sample."""

    @property
    def prompt(self) -> tuple[Message, ...]: ...
    @property
    def label(self) -> Message: ...
    @property
    def tools(self) -> tuple[Tool, ...]: ...
    @property
    def skill(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def region(self) -> Box | None: ...
