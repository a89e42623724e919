"""Data for `clearsight train` of one who knows the games: `python recipes/games.py FOLDER`.

FOLDER/hands.jsonl asks what cards make, hand after hand in a few words: sums and formulas are learned there, cheapest.
FOLDER/rules.jsonl has many games in one conversation, told in words: what to do when is learned there, at a third of
the price. FOLDER/games.jsonl has games as they are played, in pictures. `runs/games.sh` makes an adapter of all three
for nano. Seeds below 10,000 are left for tests.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

from clearsight.agent.games import GAMES, Expert, Table, play_game
from clearsight.agent.games.cards import RANKS, Card
from clearsight.agent.games.formula import solve
from clearsight.agent.games.play import Blackjack, Point24, hand_value
from clearsight.agent.games.table import tool_name
from clearsight.agent.plain import plain_messages, plain_tools
from clearsight.agent.trajectory import write_training_data
from clearsight.messages import Image, Message, Text, ToolCall

FIRST_SEED = 10_000
COUNTS = {"number_line": 200, "blackjack": 300, "ezpoint": 120, "point24": 120}
TOLD = {"number_line": 120, "blackjack": 100, "ezpoint": 60, "point24": 30}  # conversations in words
BEGUN = {"point24": 30}  # the same, of first actions alone
SEEN = {"point24": 110, "blackjack": 50}  # first actions in pictures
TURNS, SEEN_TURNS = 14, 8  # actions in each
HANDS = {"point24": 3800, "blackjack": 1200}  # conversations of fourteen hands


class EvenPoint24(Point24):
    """Every hand that can be solved comes equally often; of those that are dealt a third of the cards are tens."""

    def __init__(self) -> None:
        super().__init__()
        self._coming: list[tuple[int, ...]] = []

    def begin(self) -> None:
        if not self._coming:
            self._coming = [hand for hand in combinations_with_replacement(range(1, 11), 4) if solve(hand, self.target)]
            self.rng.shuffle(self._coming)
        points = list(self._coming.pop())
        self.rng.shuffle(points)
        self.solution, self.written = solve(tuple(sorted(points)), self.target), []
        self.hand = [Card(self.rng.choice(range(9, len(RANKS))) if at == 10 else at - 1, 0) for at in points]


class LongBlackjack(Blackjack):
    """Hands of two to five cards; a player who knows the game takes a fourth one rarely."""

    def begin(self) -> None:
        super().begin()
        for _ in range(self.rng.choice((0, 0, 1, 1, 2, 3))):
            if hand_value(self.player)[0] < 18:
                self.play("Hit")


def asked(game: EvenPoint24 | LongBlackjack, seeds: Iterator[int]) -> dict[str, Any]:
    """Hand after hand, and what a player sees in it, without the actions."""
    messages = []
    for _ in range(14):
        game.reset(seed=next(seeds))
        messages.append(Message("user", (Text(game.words().split("\nTarget")[0]),)))
        messages.append(Message("assistant", (Text(game.thought()),)))
    return {"messages": plain_messages(messages)}


def told(name: str, seeds: Iterator[int], begun: bool = False, seen: bool = False) -> dict[str, Any]:
    """One game after another as a training sample, in words or, seen, in pictures.

    begun: each is left after its first action.
    """
    table = Table(GAMES[name](), next(seeds))
    task = f"{table.game.rules} Play one action at a time."
    if seen:
        messages = [Message("user", (Image(table.picture), Text(task)))]
    else:
        messages = [Message("user", (Text(f"{task}\n{table.game.words()}"),))]
    for _ in range(SEEN_TURNS if seen else TURNS):
        thought, action = table.game.thought(), table.game.best()
        messages.append(Message("assistant", (Text(thought), ToolCall(tool_name(action), "{}", "call"))))
        table.play(action)
        note = ""
        if table.over or begun:
            table, note = Table(table.game, next(seeds)), "A new game.\n"
        shown = (Text(note), Image(table.picture)) if seen else (Text(note + table.game.words()),)
        messages.append(Message("tool", shown, "call"))
    return {"messages": plain_messages(messages[:-1]), "tools": plain_tools(m.spec for m in table.tools())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of games")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seeds = iter(range(10 * FIRST_SEED, 10**9))
    games: tuple[tuple[str, EvenPoint24 | LongBlackjack], ...] = (
        ("point24", EvenPoint24()),
        ("blackjack", LongBlackjack()),
    )
    hands = [asked(game, seeds) for name, game in games for _ in range(max(1, round(HANDS[name] * arguments.share)))]
    samples = []
    for begun, seen, counts in ((False, False, TOLD), (True, False, BEGUN), (True, True, SEEN)):
        for name, count in counts.items():
            samples += [told(name, seeds, begun, seen) for _ in range(max(1, round(count * arguments.share)))]
    for part, rows in (("hands", hands), ("rules", samples)):
        random.Random(0).shuffle(rows)
        (arguments.out / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, count in COUNTS.items():
            for seed in range(FIRST_SEED, FIRST_SEED + max(1, round(count * arguments.share))):
                paths.append(Path(folder) / f"{name}-{seed}.jsonl")
                play_game(name, Expert, seed, record=paths[-1])
        count = write_training_data(paths, arguments.out / "games.jsonl")
    print(f"{len(hands) + len(samples)} conversations in words and {count} games in {arguments.out}")


if __name__ == "__main__":
    main()
