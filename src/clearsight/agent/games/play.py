"""The four games of the paper's card group (facts, 8.3): Number Line, Blackjack, EZPoint and Point24."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image as PillowImage

from clearsight.agent.games.base import Game
from clearsight.agent.games.cards import Card, draw_card, paint
from clearsight.agent.games.formula import solve, value_of


class NumberLine(Game):
    """Move a number to a target, one step at a time; both are from 0 to 9."""

    name = "Number Line"
    rules = "Make the current number equal to the target."
    actions = ("+1", "-1")
    longest = 20

    def begin(self) -> None:
        self.target, self.current = self.rng.sample(range(10), 2)

    def play(self, action: str) -> tuple[bool | None, str]:
        self.current = min(9, max(0, self.current + int(action)))
        return (True, "the target is reached") if self.current == self.target else (None, "")

    def picture(self) -> PillowImage:
        return paint([], [f"Target: {self.target}", f"Current: {self.current}"], self.table)

    def best(self) -> str:
        return "+1" if self.current < self.target else "-1"

    def words(self) -> str:
        return f"Target: {self.target}\nCurrent: {self.current}"

    def thought(self) -> str:
        return f"Target {self.target}, current {self.current}: {self.best()}."


class Blackjack(Game):
    """Beat the dealer, who draws up to 17, without going above 21. A draw is no success."""

    name = "Blackjack"
    rules = "Get closer to 21 than the dealer, and not above it."
    actions = ("Hit", "Stand")
    longest = 12

    def begin(self) -> None:
        self.dealer = [draw_card(self.rng) for _ in range(2)]
        self.player = [draw_card(self.rng) for _ in range(2)]
        self.shown = False

    def play(self, action: str) -> tuple[bool | None, str]:
        if action == "Hit":
            self.player.append(draw_card(self.rng))
            if hand_value(self.player)[0] > 21:
                return self._end()
            return None, ""
        while hand_value(self.dealer)[0] < 17:
            self.dealer.append(draw_card(self.rng))
        return self._end()

    def picture(self) -> PillowImage:
        dealer: list[Card | None] = [*self.dealer] if self.shown else [self.dealer[0], None]
        return paint([dealer, self.player], ["Dealer above, you below"], self.table)

    def best(self) -> str:
        """The usual table, without splitting and doubling."""
        value, soft = hand_value(self.player)
        shown = self.dealer[0].points
        if soft:
            return "Stand" if value >= 19 or (value == 18 and 2 <= shown <= 8) else "Hit"
        if value >= 17 or (value >= 13 and 2 <= shown <= 6) or (value == 12 and 4 <= shown <= 6):
            return "Stand"
        return "Hit"

    def words(self) -> str:
        return f"Dealer: {self.dealer[0].name} ?\nYou: {_names(self.player)}"

    def thought(self) -> str:
        # The sum card by card: a small model adds two numbers at a time, not five, and best where they stand together.
        hands = [hand_value(self.player[:count]) for count in range(1, len(self.player) + 1)]
        told = [f"{'soft ' if soft else ''}{value}" for value, soft in hands]
        added = [card.name if card.rank == 0 else str(card.points) for card in self.player]
        sums = ", ".join(f"{told[at - 1]} + {added[at]} = {told[at]}" for at in range(1, len(told)))
        return f"Dealer {self.dealer[0].name}, me {_names(self.player)}: {sums}. {self.best()}."

    def _end(self) -> tuple[bool, str]:
        self.shown = True
        mine, theirs = hand_value(self.player)[0], hand_value(self.dealer)[0]
        won = mine <= 21 and (theirs > 21 or mine > theirs)
        return won, f"you have {mine}, the dealer {theirs}: {'won' if won else 'not won'}"


def _names(cards: list[Card]) -> str:
    return " ".join(card.name for card in cards)


def hand_value(cards: list[Card]) -> tuple[int, bool]:
    """Points of a hand, and whether an ace counts 11 in it."""
    value = sum(card.points for card in cards)
    soft = any(card.rank == 0 for card in cards) and value + 10 <= 21
    return value + 10 * soft, soft


class _Formula(Game):
    """Write a formula that uses each card once and has the target as its value; "=" ends it.

    A picture card counts 10. An action that cannot stand where it is written fails the game.
    """

    cards = 0
    target = 0
    signs: tuple[str, ...] = ()

    def begin(self) -> None:
        while True:
            self.hand = [draw_card(self.rng) for _ in range(self.cards)]
            self.solution = solve(tuple(sorted(card.points for card in self.hand)), self.target)
            if self.solution is not None:
                break
        self.written: list[str] = []

    def play(self, action: str) -> tuple[bool | None, str]:
        if action not in self.sensible():
            return False, f"{action} cannot stand after {' '.join(self.written) or 'nothing'}"
        if action != "=":
            self.written.append(action)
            return None, ""
        value = value_of(self.written)
        used = sorted(int(item) for item in self.written if item.isdecimal())
        if used != sorted(card.points for card in self.hand):
            return False, "not every card was used"
        return value == self.target, f"{' '.join(self.written)} is {value}, the target is {self.target}"

    def picture(self) -> PillowImage:
        shown = "".join(self.written) or "(nothing)"
        return paint([self.hand], [f"Target: {self.target}", f"Formula: {shown}"], self.table)

    def sensible(self) -> tuple[str, ...]:
        left = [str(card.points) for card in self.hand]
        for item in self.written:
            if item.isdecimal():
                left.remove(item)
        depth = self.written.count("(") - self.written.count(")")
        after_value = bool(self.written) and (self.written[-1].isdecimal() or self.written[-1] == ")")
        if not after_value:
            opening = ("(",) if "(" in self.signs and depth < 2 and len(left) > 1 else ()
            return (*sorted(set(left), key=int), *opening)
        signs = tuple(sign for sign in self.signs if sign not in "()") if left else ()
        closing = (")",) if depth else ()
        return (*signs, *closing, *(("=",) if not depth else ()))

    def best(self) -> str:
        return self._rest()[0]

    def _rest(self) -> list[str]:
        """What is still to be written; after a formula that is not the solution's beginning, only its end."""
        assert self.solution is not None
        rest = [*self.solution, "="]
        return rest[len(self.written) :] if self.written == rest[: len(self.written)] else ["="]

    def words(self) -> str:
        return f"Cards: {_names(self.hand)}\nTarget: {self.target}\nFormula: {''.join(self.written) or '(nothing)'}"

    def thought(self) -> str:
        # What is left to write is the thought before without its first sign, so a small model does not lose its place.
        if self.written:
            return f"Rest: {_said(self._rest())}."
        # Four cards come in many orders; which formula they make is remembered by one of them.
        points = " ".join(map(str, sorted(card.points for card in self.hand)))
        in_order = f", in order {points}" if self.cards > 2 else ""
        return f"Cards {_names(self.hand)}{in_order}: {_said(self._rest())}."


def _said(formula: Sequence[str]) -> str:
    """Brackets as words: nano's texts have none, so that it cannot write them."""
    return " ".join(formula).replace("(", "open").replace(")", "close")


class EZPoint(_Formula):
    """Two cards and the target 12."""

    name = "EZPoint"
    rules = "Write a formula with the value 12 that uses each card once; J, Q and K count 10. End it with =."
    cards, target, signs = 2, 12, ("+", "-", "*", "/")
    actions = (*map(str, range(1, 11)), "+", "-", "*", "/", "=")
    longest = 8


class Point24(_Formula):
    """Four cards, brackets and the target 24."""

    name = "Point24"
    rules = "Write a formula with the value 24 that uses each card once; J, Q and K count 10. End it with =."
    cards, target, signs = 4, 24, ("+", "-", "*", "/", "(", ")")
    actions = (*map(str, range(1, 11)), "+", "-", "*", "/", "(", ")", "=")
    longest = 20


GAMES: dict[str, type[Game]] = {
    "number_line": NumberLine,
    "blackjack": Blackjack,
    "ezpoint": EZPoint,
    "point24": Point24,
}
