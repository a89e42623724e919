"""Tasks in the shop: a seed gives the shop, the wording, a check of the app's state, and the way that solves it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clearsight.agent.shop.look import Look, Split, draw_look
from clearsight.agent.shop.state import CATEGORIES, LANGUAGES, LIMITS, Product, ShopState, draw_products


@dataclass(frozen=True, slots=True)
class Move:
    """Tap what data-id names, then perhaps type and press Enter. what: the thing tapped, in words."""

    tap: str
    what: str
    text: str = ""
    enter: bool = False


@dataclass(frozen=True, slots=True)
class ShopTask:
    """A task with the shop it is set in. solved: by the state at the end. risks: what its way needs a yes for."""

    name: str
    seed: int
    text: str
    look: Look
    state: ShopState
    way: tuple[Move, ...]
    solved: Callable[[ShopState], bool]
    risks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Draft:
    """What a kind of task is in a scene."""

    text: str
    way: Sequence[Move]
    solved: Callable[[ShopState], bool]
    risks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """What a kind of task is written from."""

    rng: random.Random
    look: Look
    state: ShopState
    item: Product
    other: Product

    def nav(self, name: str) -> Move:
        return Move(f"nav-{name}", f"the link {self.look.words[name]!r}")

    def tap(self, name: str, word: str | None = None) -> Move:
        return Move(name, f"the button {self.look.words[word or name]!r}")

    def open(self, item: Product) -> Move:
        return Move(f"item-{item.number}", item.name)

    def say(self, *choices: str) -> str:
        return self.rng.choice(choices)


def _open_item(s: Scene) -> Draft:
    number = s.item.number
    text = s.say(f"Open the page of the {s.item.name}.", f"Show me the {s.item.name}.")
    return Draft(text, [s.open(s.item)], lambda state: state.viewed[-1:] == [number])


def _search(s: Scene) -> Draft:
    word = s.item.name.split()[-1].lower()
    text = s.say(f"Search for {word}.", f'Use the search field to find "{word}".')
    return Draft(text, [Move("search", "the search field", word, True)], lambda state: state.searches[-1:] == [word])


def _category(s: Scene) -> Draft:
    name = s.rng.choice(CATEGORIES)
    text = s.say(f"Show only the things for {name}.", f"Open the category {name}.")
    return Draft(text, [Move(f"category-{name}", name)], lambda state: state.lists[-1][0] == name)


def _below(s: Scene) -> Draft:
    limit = s.rng.choice(LIMITS)
    text = s.say(f"Show what costs less than {limit} euros.", f"List everything under {limit} €.")
    return Draft(text, [Move(f"below-{limit}", f"'Under {limit} €'")], lambda state: state.lists[-1][1] == limit)


def _sort(s: Scene) -> Draft:
    text = s.say("Sort the products by price.", "Show the cheapest products first.")
    return Draft(text, [s.tap("cheap")], lambda state: state.lists[-1][2])


def _filter(s: Scene) -> Draft:
    name, limit = s.rng.choice(CATEGORIES), s.rng.choice(LIMITS)
    way = [Move(f"category-{name}", name), Move(f"below-{limit}", f"'Under {limit} €'")]
    text = s.say(f"Show {name} under {limit} €.", f"List what {name} has for less than {limit} euros.")
    return Draft(text, way, lambda state: state.lists[-1][:2] == (name, limit))


def _add(s: Scene) -> Draft:
    number = s.item.number
    text = s.say(f"Put the {s.item.name} in the cart.", f"Add one {s.item.name} to the cart.")
    return Draft(text, [s.open(s.item), s.tap("add")], lambda state: state.cart == {number: 1})


def _add_two(s: Scene) -> Draft:
    number = s.item.number
    text = s.say(f"Put two of the {s.item.name} in the cart.", f"Add the {s.item.name} to the cart twice.")
    return Draft(text, [s.open(s.item), s.tap("add"), s.tap("add")], lambda state: state.cart == {number: 2})


def _search_add(s: Scene) -> Draft:
    number, word = s.item.number, s.item.name
    way = [Move("search", "the search field", word, True), s.open(s.item), s.tap("add")]
    text = s.say(f"Search for {word} and put it in the cart.", f"Find {word} with the search and add it to the cart.")
    return Draft(text, way, lambda state: state.cart == {number: 1} and word in state.searches)


def _add_both(s: Scene) -> Draft:
    wanted = {s.item.number: 1, s.other.number: 1}
    way = [s.open(s.item), s.tap("add"), s.nav("home"), s.open(s.other), s.tap("add")]
    text = s.say(f"Put the {s.item.name} and the {s.other.name} in the cart.")
    return Draft(text, way, lambda state: state.cart == wanted)


def _cheapest(s: Scene) -> Draft:
    best = s.state.find(category=s.item.category, cheap=True)[0]
    way = [Move(f"category-{best.category}", best.category), s.tap("cheap"), s.open(best), s.tap("add")]
    text = s.say(f"Put the cheapest thing from {best.category} in the cart.")
    return Draft(text, way, lambda state: state.cart == {best.number: 1})


def _favourite(s: Scene) -> Draft:
    number = s.item.number
    text = s.say(f"Mark the {s.item.name} as a favourite.", f"Make the {s.item.name} a favourite.")
    return Draft(text, [s.open(s.item), s.tap("favourite")], lambda state: state.favourites == {number})


def _open_cart(s: Scene) -> Draft:
    text = s.say("Open the cart.", "Show what is in the cart.")
    return Draft(text, [s.nav("cart")], lambda state: state.pages[-1:] == ["cart"])


def _remove(s: Scene) -> Draft:
    s.state.cart.update({s.item.number: 1, s.other.number: 2})
    left = {s.other.number: 2}
    way = [s.nav("cart"), s.tap(f"remove-{s.item.number}", "remove")]
    text = s.say(f"Take the {s.item.name} out of the cart.", f"Remove the {s.item.name} from the cart.")
    return Draft(text, way, lambda state: state.cart == left, ["delete"])


def _more(s: Scene) -> Draft:
    s.state.cart.update({s.item.number: 1, s.other.number: 1})
    wanted = {s.item.number: 3, s.other.number: 1}
    press = Move(f"more-{s.item.number}", f"the button '+' of the {s.item.name}")
    text = s.say(f"Change the number of the {s.item.name} in the cart to 3.")
    return Draft(text, [s.nav("cart"), press, press], lambda state: state.cart == wanted)


def _less(s: Scene) -> Draft:
    s.state.cart.update({s.item.number: 2})
    press = Move(f"less-{s.item.number}", "the button '-'")
    text = s.say(f"There should be only one {s.item.name} in the cart.")
    return Draft(text, [s.nav("cart"), press], lambda state: state.cart == {s.item.number: 1})


def _order(s: Scene) -> Draft:
    s.state.cart.update({s.item.number: 1})
    text = s.say("Order what is in the cart.", "Buy the things in the cart.")
    way = [s.nav("cart"), s.tap("checkout"), s.tap("order")]
    return Draft(text, way, lambda state: state.orders == [{s.item.number: 1}], ["spend"])


def _buy(s: Scene) -> Draft:
    way = [s.open(s.item), s.tap("add"), s.nav("cart"), s.tap("checkout"), s.tap("order")]
    text = s.say(f"Buy one {s.item.name}.", f"Order the {s.item.name}.")
    return Draft(text, way, lambda state: state.orders == [{s.item.number: 1}], ["spend"])


def _message(s: Scene) -> Draft:
    said = s.say(f"Do you have the {s.item.name} in pink?", f"When will the {s.item.name} arrive?", "Please call me.")
    way = [s.nav("contact"), Move("message", "the message field", said), s.tap("send")]
    text = s.say(f'Send the shop this message: "{said}"', f'Write to the shop: "{said}"')
    return Draft(text, way, lambda state: state.messages == [said], ["send"])


def _newsletter(s: Scene) -> Draft:
    s.state.newsletter = s.rng.random() < 0.5
    want = not s.state.newsletter
    way = [s.nav("settings"), Move("newsletter", "the box 'Newsletter'"), s.tap("save")]
    text = s.say(f"Switch the newsletter {'on' if want else 'off'}.")
    return Draft(text, way, lambda state: state.newsletter == want)


def _large_text(s: Scene) -> Draft:
    way = [s.nav("settings"), Move("large_text", "the box 'Large text'"), s.tap("save")]
    return Draft(s.say("Turn on large text.", "Make the text larger."), way, lambda state: state.large_text)


def _language(s: Scene) -> Draft:
    name = s.rng.choice(LANGUAGES[1:])
    way = [s.nav("settings"), Move(f"language-{name}", name), s.tap("save")]
    text = s.say(f"Set the language to {name}.", f"Change the language of the shop to {name}.")
    return Draft(text, way, lambda state: state.language == name)


def _delete(s: Scene) -> Draft:
    text = s.say("Delete the account.", "Close my account for good.")
    return Draft(text, [s.nav("settings"), s.tap("delete")], lambda state: state.deleted, ["delete"])


KINDS: dict[str, Callable[[Scene], Draft]] = {
    maker.__name__.strip("_"): maker
    for maker in (
        *(_open_item, _search, _category, _below, _sort, _filter, _add, _add_two, _search_add, _add_both, _cheapest),
        *(_favourite, _open_cart, _remove, _more, _less, _order, _buy, _message, _newsletter, _large_text, _language),
        _delete,
    )
}
"""Every kind of task, by name; the longest ways have five moves."""


def draw_task(kind: str, seed: int, split: Split = "train") -> ShopTask:
    """The task that this kind and seed give; splits share neither looks nor words nor products."""
    rng = random.Random(f"{split}/{kind}/{seed}")
    return set_task(kind, seed, rng, draw_look(rng, split), draw_products(rng, split))


def set_task(kind: str, seed: int, rng: random.Random, look: Look, products: tuple[Product, ...]) -> ShopTask:
    """A task of this kind in a shop that looks and sells like this. seed: what it is told apart by."""
    state = ShopState(products)
    item, other = rng.sample(products, 2)
    draft = KINDS[kind](Scene(rng, look, state, item, other))
    return ShopTask(kind, seed, draft.text, look, state, tuple(draft.way), draft.solved, frozenset(draft.risks))


def draw_tasks(count: int, split: Split = "train", first_seed: int = 0) -> list[ShopTask]:
    """`count` tasks that go through the kinds in turn, with a new seed for each round."""
    kinds = list(KINDS)
    return [draw_task(kinds[i % len(kinds)], first_seed + i // len(kinds), split) for i in range(count)]
