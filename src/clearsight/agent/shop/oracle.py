"""A scripted policy that knows the way: it solves each task, and its runs are what a model can be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clearsight.agent.chat import Said
from clearsight.agent.screen.actions import Action
from clearsight.agent.screen.browser import Browser
from clearsight.agent.screen.listing import line_of
from clearsight.agent.screen.probe import CONTROL, elements_of
from clearsight.agent.shop.tasks import Move, ShopTask
from clearsight.messages import Message, Text

# What the shop calls by this name, in words and with its place; null if it is not on the page.
_FIND = f"""name => {{
  const e = document.querySelector(`[data-id="${{name}}"]`);
  return e && ({CONTROL})(e);
}}"""


class Oracle:
    """A Chat that looks into the page instead of at the picture. Made for one task; answers with one call a time.

    Each thought begins with a line of its own that counts the moves, such as "2/5": what comes next follows from it and
    the task, and so does that it is too early, or time, to be done. behind: moves of the way that were made before.
    """

    def __init__(self, browser: Browser, task: ShopTask, behind: int = 0) -> None:
        self._browser = browser
        self._pending = [
            (f"{number}/{len(task.way)}", move, action)
            for number, move in enumerate(task.way, 1)
            if number > behind
            for action in _actions(move)
        ]

    def chat(self, messages: Sequence[Message], **options: Any) -> Said:
        if not self._pending:
            return _said("All is done.", Action("Done"))
        count, move, action = self._pending[0]
        if action is None:
            found = self._browser.page.evaluate(_FIND, move.tap)
            if found is None:
                return Said(f"I cannot find {move.what} here.")
            (element,) = elements_of([found], self._browser.size)
            # Where the screen is told in words, its line says all that the action follows from.
            line = _told(messages, line_of(element))
            told = _from_its_name(line, move)
            if element.point is None:
                direction = "down" if element.away == "below" else "up"
                thought = told or f"I scroll {direction} to {move.what}."
                return _said(f"{count}\n{thought}", Action("Scroll", direction=direction))
            self._pending.pop(0)
            if told:
                return _said(f"{count}\n{told}", Action("Click", mark=line.rsplit(" ", 1)[1]))
            return _said(f"{count}\nI click {move.what}.", Action("Click", point=element.point))
        self._pending.pop(0)
        return _said(f"{count}\n{'I type the text.' if action.name == 'Type' else 'I press Enter.'}", action)


def _actions(move: Move) -> list[Action | None]:
    """None stands for a click whose place is looked up when it is its turn."""
    typed = [Action("Type", text=move.text)] if move.text else []
    return [None, *typed, *([Action("Enter")] if move.enter else [])]


def _from_its_name(line: str, move: Move) -> str:
    """The line from what the task itself says on: its name, or where it leads."""
    name = line.find(f'"{move.what}')
    return line if name < 0 else line[name:]


def _told(messages: Sequence[Message], line: str) -> str:
    """The line as it was told last, with its mark; "" if it never was."""
    texts = (part.text for message in reversed(messages) for part in message.parts if isinstance(part, Text))
    lines = (told for text in texts for told in text.split("\n"))
    return next((told for told in lines if told == line or told.startswith(f"{line} ")), "")


def _said(thought: str, action: Action) -> Said:
    return Said(thought, (action.call("call"),), finish_reason="tool_calls")
