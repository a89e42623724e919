"""The baseline: a policy that does anything anywhere. What it reaches is what a success rate is worth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from clearsight.agent.chat import Said
from clearsight.agent.screen.actions import DIRECTIONS, Action
from clearsight.messages import Message


class Chance:
    """A Chat of random actions; ends after seven at the latest, as the longest way needs no more."""

    def __init__(self, seed: int, longest: int = 7) -> None:
        self._rng, self._left = random.Random(f"chance/{seed}"), longest

    def chat(self, messages: Sequence[Message], **options: Any) -> Said:
        self._left -= 1
        rng = self._rng
        point = (rng.randrange(1000), rng.randrange(1000))
        scroll = Action("Scroll", direction=rng.choice(DIRECTIONS[:2]))
        choices = (Action("Click", point=point), Action("Type", text="hello"), Action("Enter"), scroll)
        action = rng.choices(choices, (8, 1, 1, 1))[0] if self._left else Action("Done")
        return Said("", (action.call("call"),), finish_reason="tool_calls")
