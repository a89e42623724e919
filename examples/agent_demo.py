"""Watch nano, the model in the box, play and then shop: `python examples/agent_demo.py --tasks 4`.

It plays Number Line as it sees it, and operates the demo shop as it is told in words, with the two adapters that lie
beside it. The oracle, for comparison, is a script that knows the way.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from clearsight import VLM, SamplingParams
from clearsight.agent.events import Answered, Event
from clearsight.agent.games import play_game
from clearsight.agent.screen import Ended
from clearsight.agent.screen.view import lines_of
from clearsight.agent.shop import ACTIONS, Chance, Oracle, Tasks, draw_task

KINDS = ("add_two", "order", "remove", "search_add", "message", "buy")
ABOUT = {
    "nano": "the model in the box, with its adapter for this shop; it is told the screen in words",
    "oracle": "a script that knows the way and looks into the page; no model is at work here",
    "chance": "random clicks, for comparison",
}


def play(vlm: VLM, seed: int) -> None:
    """A game of Number Line, which nano sees as a picture after every move."""
    print(f"nano plays Number Line, game {seed}")

    def watch(event: Event) -> None:
        if isinstance(event, Answered):
            moves = ", ".join(call.name for call in event.calls) or "(no move)"
            print(f"{event.step:>3}  {event.text.strip()} -> {moves}  [{event.seconds:.1f} s]", flush=True)

    options = {"sampling": SamplingParams(max_tokens=192), "adapter": "games"}
    won = play_game("number_line", lambda game, seed: vlm, seed, watch=watch, **options)
    print(f"     {'the target is reached' if won else 'the target was not reached'}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", choices=tuple(ABOUT), default="nano")
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, default=Path("agent-demo"), help="where the records go")
    parser.add_argument("--headed", action="store_true", help="show the browser's window")
    args = parser.parse_args()
    options: dict[str, Any] = {}
    vlm = VLM.load("nano", adapters={"games": "games", "shop": "shop"})
    for seed in range(args.seed, args.seed + 2):
        play(vlm, seed)
    if args.policy == "nano":
        options = {"sampling": SamplingParams(max_tokens=160), "adapter": "shop", "observe": "elements"}
    policies = {
        "oracle": Oracle,
        "nano": lambda browser, task: vlm,
        "chance": lambda browser, task: Chance(task.seed),
    }
    print(f"policy: {args.policy} ({ABOUT[args.policy]})")
    solved = 0
    with Tasks(headless=not args.headed) as tasks:
        for number in range(args.tasks):
            task = draw_task(KINDS[number % len(KINDS)], args.seed + number, "test")
            folder = args.record / f"{number + 1}-{task.name}"
            print(f"\ntask: {task.text}")
            for event in tasks.steps(task, policies[args.policy], record=folder, actions=ACTIONS, **options):
                print(lines_of(event), flush=True)
                if isinstance(event, Ended):
                    solved += (good := task.solved(task.state))
                    print(f"solved, by the shop's state: {'yes' if good else 'no'}; record: {folder / 'record.html'}")
    print(f"\n{solved} of {args.tasks} tasks solved")


if __name__ == "__main__":
    main()
