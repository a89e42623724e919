"""Running tasks: one shop and one browser for many of them, each judged by the shop's state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clearsight.agent.chat import Chat
from clearsight.agent.limits import AgentLimits
from clearsight.agent.screen.browser import Browser
from clearsight.agent.screen.guard import Guard
from clearsight.agent.screen.operator import Ended, Operator, Step
from clearsight.agent.shop.server import Shop
from clearsight.agent.shop.tasks import ShopTask

SIZE = (448, 448)
"""256 tokens a screen; both sides are multiples of 28, so the model sees every pixel as it is."""

ACTIONS = ("Click", "Type", "Scroll", "Enter", "Done")
"""What the tasks need, of all there are."""

Policy = Callable[[Browser, ShopTask], Chat]


@dataclass(frozen=True, slots=True)
class Attempt:
    """solved: by the shop's state, whatever the model says."""

    task: ShopTask
    steps: tuple[Step, ...]
    ended: Ended
    solved: bool


class Tasks:
    """Use it in a `with` block: a shop and a browser that are set anew for each task."""

    def __init__(self, *, size: tuple[int, int] = SIZE, executable: str | None = None, headless: bool = True) -> None:
        self._size, self._executable, self._headless = size, executable, headless
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Tasks:
        from clearsight.agent.shop.tasks import draw_task

        first = draw_task("open_cart", 0)
        try:
            self.shop = self._stack.enter_context(Shop(first.look, first.state))
            browser = Browser(self.shop.address, size=self._size, executable=self._executable, headless=self._headless)
            self.browser = self._stack.enter_context(browser)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def steps(
        self, task: ShopTask, policy: Policy, *, record: str | Path | None = None, **options: Any
    ) -> Iterator[Step | Ended]:
        """One task, step by step. A person's yes is given to the risks that the task itself names, and to no other.

        options: limits, secrets and what else an Operator takes.
        """
        self.shop.show(task.look, task.state)
        self.browser.decide = lambda request: request.kind == "go"
        self.browser.page.goto(self.shop.address)
        guard = Guard(
            sites={urlsplit(self.shop.address).netloc},
            ask=lambda question: any(f"may {risk}." in question for risk in task.risks),
        )
        limits = options.pop("limits", AgentLimits(steps=20))
        operator = Operator(
            policy(self.browser, task), self.browser, guard=guard, limits=limits, record=record, **options
        )
        yield from operator.run(task.text)

    def attempt(self, task: ShopTask, policy: Policy, *, record: str | Path | None = None, **options: Any) -> Attempt:
        """One task to its end."""
        *steps, ended = self.steps(task, policy, record=record, **options)
        assert isinstance(ended, Ended)
        taken = tuple(step for step in steps if isinstance(step, Step))
        return Attempt(task, taken, ended, task.solved(task.state))
