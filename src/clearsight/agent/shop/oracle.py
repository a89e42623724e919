"""A scripted policy that knows the way: it solves each task, and its runs are what a model can be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clearsight.agent.chat import Said
from clearsight.agent.screen.actions import Action
from clearsight.agent.screen.browser import Browser
from clearsight.agent.shop.tasks import Move, ShopTask
from clearsight.messages import Message

# Where something lies on the screen, in thousandths; null if it is not on the page.
# With a margin, as what is half hidden is hard to see.
_PLACE = """name => {
  const e = document.querySelector(`[data-id="${name}"]`);
  if (!e) return null;
  const r = e.getBoundingClientRect(), w = innerWidth, h = innerHeight;
  const x = (r.left + r.right) / 2, y = (r.top + r.bottom) / 2;
  const top = document.elementFromPoint(x, y);
  const seen = y > 6 && y < h - 6 && top && (e === top || e.contains(top) || top.contains(e));
  return {seen, down: y >= h / 2, point: [Math.round(1000 * x / w), Math.round(1000 * y / h)]};
}"""


class Oracle:
    """A Chat that looks into the page instead of at the picture. Made for one task; answers with one call a time."""

    def __init__(self, browser: Browser, task: ShopTask) -> None:
        self._browser = browser
        self._pending = [step for move in task.way for step in _steps(move)]

    def chat(self, messages: Sequence[Message], **options: Any) -> Said:
        if not self._pending:
            return _said("Everything that was asked for is done.", Action("Done"))
        move, action = self._pending[0]
        if action is None:
            place = self._browser.page.evaluate(_PLACE, move.tap)
            if place is None:
                return Said(f"I cannot find {move.what} here.")
            if not place["seen"]:
                direction = "down" if place["down"] else "up"
                return _said(
                    f"I do not see {move.what} yet, so I look further {direction}.",
                    Action("Scroll", direction=direction),
                )
            x, y = place["point"]
            action = Action("Click", point=(x, y))
        self._pending.pop(0)
        return _said(_thought(move, action), action)


def _steps(move: Move) -> list[tuple[Move, Action | None]]:
    """None stands for a click whose place is looked up when it is its turn."""
    steps: list[tuple[Move, Action | None]] = [(move, None)]
    if move.text:
        steps.append((move, Action("Type", text=move.text)))
    if move.enter:
        steps.append((move, Action("Enter")))
    return steps


def _thought(move: Move, action: Action) -> str:
    if action.name == "Click":
        return f"I click {move.what}."
    return "I type the text." if action.name == "Type" else "I press Enter."


def _said(thought: str, action: Action) -> Said:
    return Said(thought, (action.call("call"),), finish_reason="tool_calls")
