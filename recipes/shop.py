"""Data for `clearsight train` of one who knows the demo shop: `python recipes/shop.py FOLDER`.

The shop is told in words (`observe="elements"`). Four files, from short to long: FOLDER/lines.jsonl has invented
screens of a few lines, where the line that a task names is found and copied; FOLDER/moves.jsonl has pages of the shop,
each with three tasks and the next move of each; FOLDER/ways.jsonl has whole tasks without what an operator is told
first, which is long, always the same and soon learned; FOLDER/tasks.jsonl has them with it. `runs/shop.sh` makes an
adapter of them for nano. Only the train split is drawn; seeds below 10,000 are left for tests.

A small model learns by heart what it could copy: a few dozen names, the mark of a button. So most shops wear
invented names, and the marks are exchanged.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from clearsight.agent.plain import plain_messages
from clearsight.agent.screen import Element
from clearsight.agent.screen.actions import Action
from clearsight.agent.screen.listing import LETTERS, Marks
from clearsight.agent.shop import ACTIONS, KINDS, Oracle, ShopTask, Tasks
from clearsight.agent.shop.look import Look, Split, draw_look
from clearsight.agent.shop.state import Product, ShopState, draw_products
from clearsight.agent.shop.tasks import Scene, set_task
from clearsight.agent.trajectory import write_training_data
from clearsight.messages import Message, Text
from clearsight.train.worlds import tokens
from clearsight.train.worlds.vocabulary import question_words

FIRST_SEED = 10_000
LINES, PAGES, TASKS = 10_000, 1000, 900
DISGUISED = 0.8  # of the names
LONG = "filter add_two search_add add_both cheapest remove buy message".split()  # drawn twice as often: many moves
WHOLE = 0.5  # of the words of a label that is invented
REWORDED = 0.6  # of the messages
QUESTIONS, TOGETHER = 9, 3  # tasks for one page, and how many of them stand in one conversation

Sample = dict[str, Any]


def sample(messages: Sequence[Message]) -> Sample:
    return {"messages": plain_messages(messages)}


def asked(words: str, task: str) -> Message:
    return Message("user", (Text(f"{words}\nYour task is: {task}" if words else f"Your task is: {task}"),))


def without_beginning(told: Sample) -> Sample:
    """Without the tools and the system message."""
    return {"messages": [message for message in told["messages"] if message["role"] != "system"]}


def _words_of(split: Split) -> frozenset[str]:
    """Of the names that things have in the shops of a split, in lower case."""
    rngs = [random.Random(seed) for seed in range(200)]
    names = [name for rng in rngs for name in draw_look(rng, split).words.values()]
    names += [product.name for rng in rngs for product in draw_products(rng, split)]
    return frozenset(word for name in names for word in name.lower().split())


_HELD = _words_of("test") - _words_of("train") - frozenset("and for in into the".split())


@cache
def _whole_words() -> tuple[str, ...]:
    pieces = {piece.strip() for piece in question_words()}
    return tuple(sorted(piece for piece in pieces if piece.isalpha() and piece.lower() not in _HELD))


class Inventor:
    """Names that nobody has seen before, and marks that say nothing of their place."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def word(self) -> str:
        rng = self._rng
        while (word := tokens.word(rng, "train", 8)) in _HELD:
            pass
        return word.capitalize() if rng.random() < 0.6 else word

    def label(self) -> str:
        """One to three words. Of a vocabulary as small as nano's some are one token, and copied as such or not at all:
        they must be seen as often as letters are."""
        rng = self._rng
        words = (rng.choice(_whole_words()) if rng.random() < WHOLE else self.word() for _ in range(rng.randint(1, 3)))
        return " ".join(words)

    def shop(self) -> tuple[Look, tuple[Product, ...]]:
        """A shop of the train split, most of whose names are invented."""
        rng = self._rng
        look, products = draw_look(rng, "train"), draw_products(rng, "train")
        words = {name: self.label() if rng.random() < DISGUISED else word for name, word in look.words.items()}
        if rng.random() < DISGUISED:
            names = self._names(len(products))
            products = tuple(replace(product, name=name) for product, name in zip(products, names, strict=True))
        return replace(look, words=words), products

    def _names(self, count: int) -> list[str]:
        """Of two words, of which many share one: who has read half a name does not know which thing is meant."""
        rng, names = self._rng, set[str]()
        first, last = ([self.word() for _ in range(rng.randint(3, count))] for _ in range(2))
        while len(names) < count:
            name = f"{rng.choice(first)} {rng.choice(last)}"
            if name in names:
                first.append(self.word())  # else there might not be enough
            names.add(name)
        return rng.sample(sorted(names), count)

    def reworded(self, task: ShopTask) -> ShopTask:
        """What a task has written to the shop is mostly invented."""
        if task.name != "message" or self._rng.random() > REWORDED:
            return task
        contact, field, send = task.way
        said = f"{' '.join(self.label() for _ in range(self._rng.randint(1, 4)))}{self._rng.choice('.?!')}"
        way = (contact, replace(field, text=said), send)
        text = task.text.replace(field.text, said)
        return replace(task, text=text, way=way, solved=lambda state: state.messages == [said])

    def marked(self, told: Sample) -> Sample:
        """The sample with its marks exchanged: else the first line would always be a, and the next b."""
        others = list(LETTERS)
        self._rng.shuffle(others)

        def exchanged(found: re.Match[str]) -> str:
            return f"{found[1]}{others[LETTERS.index(found[2])]}"

        # As text: a mark stands at a line's end, behind a quote, and in a call's arguments.
        text = re.sub(r'(\\" |mark\\": \\")([A-Za-z])(?=\\n|\\"|")', exchanged, json.dumps(told))
        remarked: Sample = json.loads(text)
        return remarked


class Lines:
    """Invented screens: names that are known or mere letters, so that only copying helps."""

    _WISHES = ("Click {}.", "Open the page of the {}.", "Show me the {}.", "Put the {} in the cart.", 'Press "{}".')
    _GOALS = ("Go to {}.", "Open {}.", "What leads to {}?")

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"lines/{seed}")
        self._inventor = Inventor(self._rng)

    def sample(self, most: int) -> Sample:
        """A screen of two to `most` lines, and what to do about one of them."""
        rng, elements = self._rng, self._screen(self._rng.randint(2, most))
        element = rng.choice(elements)
        listing = Marks().listing(elements)
        thought = listing.text.split("\n")[elements.index(element)]
        if element.leads and rng.random() < 0.6:
            task = rng.choice(self._GOALS).format(element.leads)
        else:
            # A product is named without its price.
            name = element.label.rsplit(" ", 2)[0] if element.label.endswith("€") else element.label
            task = rng.choice(self._WISHES).format(name)
            thought = thought[thought.index('"') :]
        action = Action("Click", mark=thought.rsplit(" ", 1)[1])
        if element.point is None:
            action = Action("Scroll", direction="down" if element.away == "below" else "up")
        said = Message("assistant", (Text(thought), action.call("call")))
        return self._inventor.marked(sample([asked(listing.text, task), said]))

    def _screen(self, count: int) -> list[Element]:
        rng = self._rng
        elements: dict[str, Element] = {}
        leads: set[str] = set()
        while len(elements) < count:
            label, where = self._label(), self._where()
            if label in elements or where in leads:
                continue
            leads |= {where} if where else set()
            value = None if where else rng.choice(("", "on", "off", self._inventor.word()))
            point = (rng.randint(20, 980), rng.randint(20, 980)) if rng.random() < 0.9 else None
            elements[label] = Element(label, where, value, point, "" if point else rng.choice(("below", "above")))
        return list(elements.values())

    def _label(self) -> str:
        rng = self._rng
        if (kind := rng.random()) < 0.35:
            product = rng.choice(draw_products(rng, "train"))
            return f"{product.name} {product.price} €"
        if kind < 0.55:
            return rng.choice(list(draw_look(rng, "train").words.values()))
        return self._inventor.label()

    def _where(self) -> str:
        rng = self._rng
        if (kind := rng.random()) < 0.4:
            return f"/{rng.choice(('item', 'add', 'remove', 'more', 'less', 'favourite'))}/{rng.randrange(10)}"
        if kind < 0.6:
            return rng.choice(("/", "/cart", "/contact", "/settings", "/checkout", "/order", "/message"))
        return "" if kind < 0.7 else f"/{self._inventor.word().lower()}"


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
        self._inventor = Inventor(self._rng)

    def page(self) -> Iterator[Sample]:
        rng = self._rng
        page = rng.choices(_PAGES, _HOW_OFTEN)[0]
        look, products = self._inventor.shop()
        items = rng.sample(products, 3)
        state = ShopState(products)
        if page in ("cart", "checkout") or rng.random() < 0.2:
            state.cart.update({item.number: rng.randint(1, 2) for item in items[: rng.randint(1, 3)]})
        self._show(look, state, page, items[0].number)
        words = Marks().listing(self._tasks.browser.elements()).text
        inside = [item for item in items if item.number in state.cart] or items
        for _ in range(0, QUESTIONS, TOGETHER):
            turns: list[Message] = []
            for number in range(TOGETHER):
                task, said = self._move(look, state, page, inside, words)
                turns += [asked("" if number else words, task), said]
            yield self._inventor.marked(sample(turns))

    def _show(self, look: Look, state: ShopState, page: str, number: int) -> None:
        shop, browser = self._tasks.shop, self._tasks.browser
        shop.show(look, copy.deepcopy(state))
        browser.decide = lambda request: True
        places = {"list": "", "item": f"item/{number}"}
        browser.page.goto(f"{shop.address.rstrip('/')}/{places.get(page, page)}")
        if page == "list":
            for _ in range(self._rng.choice((0, 0, 1, 2))):
                browser.act(Action("Scroll", direction="down"))

    def _move(
        self, look: Look, state: ShopState, page: str, items: Sequence[Product], words: str
    ) -> tuple[str, Message]:
        """A task and what to do about it on this page, which says these words."""
        rng, here = self._rng, _PLACES.get(page, {})
        # On the cart's page the cart is open, and who wants two things may have put one in.
        away = [kind for kind in KINDS if kind not in (*here, "open_cart", "add_both")] if here else [*KINDS]
        kind = rng.choice([*here] if here and rng.random() < 0.75 else away)
        others = [product for product in state.products if product not in items]
        item = rng.choice(items) if page == "cart" else items[0] if kind in here else rng.choice(others)
        other = rng.choice([product for product in state.products if product != item])
        scene = Scene(rng, look, copy.deepcopy(state), item, other)
        draft = KINDS[kind](scene)
        lost = here and kind not in here and not draft.way[0].tap.startswith("nav-")
        way = (scene.nav("home"), *draft.way) if lost else tuple(draft.way)
        task = ShopTask(kind, 0, draft.text, look, state, way, draft.solved)
        said = Oracle(self._tasks.browser, task, here.get(kind, 0)).chat([Message("user", (Text(words),))])
        return draft.text, Message("assistant", (Text(said.text), *said.tool_calls))


def write(path: Path, samples: Iterable[Sample]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for found in samples:
            file.write(json.dumps(found) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of samples")
    parser.add_argument("--seed", type=int, default=0, help="another one draws others")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    screens, pages, count = (max(1, round(number * arguments.share)) for number in (LINES, PAGES, TASKS))
    first = FIRST_SEED + 100_000 * arguments.seed
    lines = Lines(arguments.seed)
    write(arguments.out / "lines.jsonl", (lines.sample(6) for _ in range(screens)))
    with Tasks() as tasks, tempfile.TemporaryDirectory() as folder:
        moves = Moves(tasks, arguments.seed)
        write(arguments.out / "moves.jsonl", (found for _ in range(pages) for found in moves.page()))
        records = []
        rng = random.Random(f"tasks/{arguments.seed}")
        inventor, kinds = Inventor(rng), [*KINDS, *LONG]
        for number in range(count):
            task = inventor.reworded(set_task(kinds[number % len(kinds)], first + number, rng, *inventor.shop()))
            record = Path(folder) / str(number)
            if tasks.attempt(task, Oracle, record=record, actions=ACTIONS, observe="elements").solved:
                records.append(record / "run.jsonl")
        whole = Path(folder) / "tasks.jsonl"
        written = write_training_data(records, whole)
        told = [json.loads(line) for line in whole.read_text(encoding="utf-8").splitlines()]
        write(arguments.out / "ways.jsonl", map(without_beginning, map(inventor.marked, told)))
        write(arguments.out / "tasks.jsonl", map(inventor.marked, told))
    print(f"{screens} invented screens, {pages} pages and {written} tasks in {arguments.out}")


if __name__ == "__main__":
    main()
