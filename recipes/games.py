"""Games of one who knows them, as data for `clearsight train`: `python recipes/games.py games.jsonl`.

`runs/games.sh` makes an adapter of it for nano. Seeds below 10,000 are left for tests.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from clearsight.agent.games import Expert, play_game
from clearsight.agent.trajectory import write_training_data

FIRST_SEED = 10_000
# Without Point24: four cards can make too many formulas for a small model to learn from games.
COUNTS = {"number_line": 200, "blackjack": 300, "ezpoint": 120}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="JSON lines, one conversation for each game")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of games")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, count in COUNTS.items():
            for seed in range(FIRST_SEED, FIRST_SEED + max(1, round(count * arguments.share))):
                paths.append(Path(folder) / f"{name}-{seed}.jsonl")
                play_game(name, Expert, seed, record=paths[-1])
        print(f"{write_training_data(paths, arguments.out)} games in {arguments.out}")


if __name__ == "__main__":
    main()
