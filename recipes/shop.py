"""Data for `clearsight train` of one who knows the demo shop: `python recipes/shop.py FOLDER`.

The shop is told in words (`observe="elements"`). FOLDER/moves.jsonl has many tasks on one page, each with its next move
alone: which line belongs to a task, and where it lies, is learned there at a fifth of the price. FOLDER/tasks.jsonl has
whole tasks. `runs/shop.sh` makes an adapter of both for nano. Only the train split is drawn; seeds below 10,000 are
left for tests.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clearsight.agent.plain import plain_messages, plain_tools
from clearsight.agent.screen.actions import Action, action_tools
from clearsight.agent.screen.listing import HOW_TO_READ, listed
from clearsight.agent.screen.operator import SYSTEM
from clearsight.agent.shop import ACTIONS, KINDS, Oracle, ShopTask, Tasks, draw_task
from clearsight.agent.shop.look import Look, draw_look
from clearsight.agent.shop.state import Product, ShopState, draw_products
from clearsight.agent.shop.tasks import Scene
from clearsight.agent.trajectory import write_training_data
from clearsight.messages import Message, Text

FIRST_SEED = 10_000
SCREENS, TASKS = 1000, 900
QUESTIONS, TOGETHER = 10, 2  # tasks for one page, and pages in one conversation

# Which page shows what a kind of task taps, and as which of its moves; what a list shows is always the first.
_PLACES = {
    "item": {"add": 1, "add_two": 1, "favourite": 1, "buy": 1},
    "cart": {"remove": 1, "more": 1, "less": 1, "order": 1},
    "checkout": {"order": 2, "buy": 4},
    "settings": {"newsletter": 1, "large_text": 1, "language": 1, "delete": 1},
    "contact": {"message": 1},
}
_PAGES = ("list", "item", "cart", "checkout", "settings", "contact")
_HOW_OFTEN = (10, 4, 4, 1, 3, 1)


class Moves:
    """Tasks on pages, each with the next move of one who knows the way."""

    def __init__(self, tasks: Tasks, seed: int) -> None:
        self._tasks, self._rng = tasks, random.Random(f"moves/{seed}")

    def conversation(self) -> dict[str, Any]:
        """As a training sample."""
        messages = [Message("system", (Text(f"{SYSTEM.format(name='browser')} {HOW_TO_READ}"),))]
        for _ in range(TOGETHER):
            messages += self._page()
        return {"messages": plain_messages(messages), "tools": plain_tools(action_tools(ACTIONS))}

    def _page(self) -> list[Message]:
        rng = self._rng
        page = rng.choices(_PAGES, _HOW_OFTEN)[0]
        look, products = draw_look(rng, "train"), draw_products(rng, "train")
        items = rng.sample(products, 3)
        state = ShopState(products)
        if page in ("cart", "checkout") or rng.random() < 0.2:
            state.cart.update({item.number: rng.randint(1, 2) for item in items[: rng.randint(1, 3)]})
        self._show(look, state, page, items[0].number)
        words = listed(self._tasks.browser.elements())
        messages = []
        for number in range(QUESTIONS):
            asked, said = self._move(look, state, page, [item for item in items if item.number in state.cart] or items)
            shown = (Text(f"{words}\n"), asked) if number == 0 else (asked,)
            messages += [Message("user", shown), said]
        return messages

    def _show(self, look: Look, state: ShopState, page: str, number: int) -> None:
        shop, browser = self._tasks.shop, self._tasks.browser
        shop.show(look, copy.deepcopy(state))
        browser.decide = lambda request: True
        places = {"list": "", "item": f"item/{number}"}
        browser.page.goto(f"{shop.address.rstrip('/')}/{places.get(page, page)}")
        if page == "list":
            for _ in range(self._rng.choice((0, 0, 1, 2))):
                browser.act(Action("Scroll", direction="down"))

    def _move(self, look: Look, state: ShopState, page: str, items: Sequence[Product]) -> tuple[Text, Message]:
        """A task and what to do about it on this page."""
        rng, here = self._rng, _PLACES.get(page, {})
        # On the cart's page the cart is open, and who wants two things may have put one in.
        away = [kind for kind in KINDS if kind not in (*here, "open_cart", "add_both")] if here else [*KINDS]
        kind = rng.choice([*here] if here and rng.random() < 0.75 else away)
        others = [product for product in state.products if product not in items]
        item = rng.choice(items) if page == "cart" else items[0] if kind in here else rng.choice(others)
        other = rng.choice([product for product in state.products if product != item])
        scene = Scene(rng, look, copy.deepcopy(state), item, other)
        draft = KINDS[kind](scene)
        move = draft.way[here.get(kind, 0)]
        if here and kind not in here and not move.tap.startswith("nav-"):
            move = scene.nav("home")
        task = ShopTask(kind, 0, draft.text, look, state, (move,), draft.solved)
        said = Oracle(self._tasks.browser, task).chat(
            [Message("user", (Text(listed(self._tasks.browser.elements())),))]
        )
        return Text(f"Your task is: {draft.text}"), Message("assistant", (Text(said.text), *said.tool_calls))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of pages and tasks")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other pages and tasks")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pages, count = (max(1, round(number * arguments.share)) for number in (SCREENS, TASKS))
    first = FIRST_SEED + 100_000 * arguments.seed
    with Tasks() as tasks, tempfile.TemporaryDirectory() as folder:
        moves = Moves(tasks, arguments.seed)
        with (arguments.out / "moves.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(max(1, pages // TOGETHER)):
                file.write(json.dumps(moves.conversation()) + "\n")
        records = []
        for number in range(count):
            task = draw_task(list(KINDS)[number % len(KINDS)], first + number, "train")
            attempt = tasks.attempt(
                task, Oracle, record=Path(folder) / str(number), actions=ACTIONS, observe="elements"
            )
            if attempt.solved:
                records.append(Path(folder) / str(number) / "run.jsonl")
        written = write_training_data(records, arguments.out / "tasks.jsonl")
    print(f"the moves of {pages} pages and {written} tasks in {arguments.out}")


if __name__ == "__main__":
    main()
