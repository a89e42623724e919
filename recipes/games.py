"""Data for `clearsight train` of one who knows the games: `python recipes/games.py FOLDER`.

FOLDER/rules.jsonl has many games in one conversation, told in words: what to do when is learned there, at a third of
the price. FOLDER/games.jsonl has games as they are played, in pictures. `runs/games.sh` makes an adapter of both for
nano. Seeds below 10,000 are left for tests.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clearsight.agent.games import GAMES, Expert, Table, play_game
from clearsight.agent.plain import plain_messages, plain_tools
from clearsight.agent.trajectory import write_training_data
from clearsight.messages import Message, Text, ToolCall

FIRST_SEED = 10_000
COUNTS = {"number_line": 200, "blackjack": 300, "ezpoint": 120, "point24": 120}
TOLD = {"number_line": 120, "blackjack": 300, "ezpoint": 120, "point24": 60}  # conversations in words
BEGUN = {"point24": 400}  # the same, of first actions alone: what four cards make is more than games can show
TURNS = 20  # actions in each


def told(name: str, seeds: Iterator[int], begun: bool = False) -> dict[str, Any]:
    """One game after another in words, as a training sample. begun: each is left after its first action."""
    table = Table(GAMES[name](), next(seeds))
    messages = [Message("user", (Text(f"{table.game.rules} Play one action at a time.\n{table.game.words()}"),))]
    for _ in range(TURNS):
        thought, action = table.game.thought(), table.game.best()
        messages.append(Message("assistant", (Text(thought), ToolCall(action, "{}", "call"))))
        table.play(action)
        note = ""
        if table.over or begun:
            table, note = Table(table.game, next(seeds)), "A new game.\n"
        messages.append(Message("tool", (Text(note + table.game.words()),), "call"))
    return {"messages": plain_messages(messages[:-1]), "tools": plain_tools(m.spec for m in table.tools())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of games")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seeds = iter(range(10 * FIRST_SEED, 10**9))
    samples = []
    for begun, counts in ((False, TOLD), (True, BEGUN)):
        for name, count in counts.items():
            samples += [told(name, seeds, begun) for _ in range(max(1, round(count * arguments.share)))]
    random.Random(0).shuffle(samples)
    (arguments.out / "rules.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, count in COUNTS.items():
            for seed in range(FIRST_SEED, FIRST_SEED + max(1, round(count * arguments.share))):
                paths.append(Path(folder) / f"{name}-{seed}.jsonl")
                play_game(name, Expert, seed, record=paths[-1])
        count = write_training_data(paths, arguments.out / "games.jsonl")
    print(f"{len(samples)} conversations in words and {count} games in {arguments.out}")


if __name__ == "__main__":
    main()
