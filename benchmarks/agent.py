"""How well and how fast acting goes: `python -m benchmarks.agent --out runs/out/agent` writes a table, data and a plot.

Success is counted in held-out shop tasks and games. Seconds and tokens per step are the model's own, measured while a
script leads it through the tasks (so that a model which cannot act yet is measured over whole runs), with the prefix
cache and without it: without, each step pays for all screens so far; with it, for the new one alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from clearsight import VLM, SamplingParams
from clearsight.agent import Chat
from clearsight.agent.games import GAMES, Expert, Random, success_rate
from clearsight.agent.shop import ACTIONS, Chance, Oracle, Tasks, draw_task, draw_tasks
from clearsight.eval import wilson

ABOUT = {"picture": "shown pictures", "elements": "told the elements"}


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one answer of the model cost. observe: how it was shown the screens. new: tokens that no cache held."""

    observe: str
    cache: bool
    step: int
    prompt: int
    new: int
    seconds: float


class Led:
    """Asks the model with the whole conversation, takes the time, and answers what the leader would."""

    def __init__(self, vlm: VLM, leader: Chat, observe: str, cache: bool, costs: list[StepCost]) -> None:
        self._vlm, self._leader, self._costs = vlm, leader, costs
        self._observe, self._cache = observe, cache
        self._step = 0

    def chat(self, messages: Sequence[Any], **options: Any) -> Any:
        self._step += 1
        # Caches are shared only under equal salts, so a salt of its own switches them off for a request.
        salt = b"" if self._cache else f"{time.monotonic_ns()}".encode()
        before, begin = self._vlm.engine.stats().prefix_hit_tokens, time.perf_counter()
        reply = self._vlm.chat(messages, SamplingParams(max_tokens=16), tools=options["tools"], salt=salt)
        seconds = time.perf_counter() - begin
        held = self._vlm.engine.stats().prefix_hit_tokens - before
        prompt = reply.usage.prompt_tokens
        self._costs.append(StepCost(self._observe, self._cache, self._step, prompt, prompt - held, seconds))
        return self._leader.chat(messages, **options)


def shop_success(tasks: Tasks, count: int, policy: Callable[..., Any], **options: Any) -> dict[str, Any]:
    attempts = [tasks.attempt(task, policy, actions=ACTIONS, **options) for task in draw_tasks(count, "test")]
    solved = sum(attempt.solved for attempt in attempts)
    rate, low, high = rate_of(solved, count)
    return {
        "success": rate,
        "interval": [low, high],
        "tasks": count,
        "steps": mean(len(attempt.steps) for attempt in attempts),
        "seconds_per_step": mean(step.seconds for a in attempts for step in a.steps)
        if any(a.steps for a in attempts)
        else 0.0,
    }


def game_success(vlm: VLM, games: int, adapter: str | None) -> dict[str, dict[str, list[float]]]:
    """Success rate and its 95% interval by game and player; adapter: of the model, which does not play without one."""
    options = {"sampling": SamplingParams(max_tokens=192), "adapter": adapter}
    players: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {"expert": (Expert, {}), "chance": (Random, {})}
    if adapter:
        players[f"{vlm.name} with its adapter"] = (lambda game, seed: vlm, options)
    return {
        name: {
            who: rate_of(round(games * success_rate(name, player, range(games), **settings)), games)
            for who, (player, settings) in players.items()
        }
        for name in GAMES
    }


def rate_of(won: int, count: int) -> list[float]:
    return [won / count, *wilson(won, count)]


def measure_shop(vlm: VLM, adapters: Sequence[str], count: int, led: int) -> dict[str, Any]:
    costs: list[StepCost] = []
    # What was learned is the shop in words; pictures are shown to the model itself.
    taught = {"adapter": "shop"} if "shop" in adapters else {}
    ways: dict[str, dict[str, Any]] = {"elements": taught, "picture": {}}
    sampling = SamplingParams(max_tokens=160)
    with Tasks() as tasks:
        shop = {
            "script that knows the way": shop_success(tasks, count, Oracle),
            "chance": shop_success(tasks, count, lambda browser, task: Chance(task.seed)),
        }
        for observe, options in ways.items():
            learned = " with its adapter" if options else ""
            shop[f"{vlm.name}{learned}, {ABOUT[observe]}"] = shop_success(
                tasks, count, lambda browser, task: vlm, observe=observe, sampling=sampling, **options
            )
        longest = sorted(draw_tasks(46, "test"), key=lambda task: -len(task.way))[:led]
        for observe, cache, task in itertools.product(ABOUT, (True, False), longest):
            fresh = draw_task(task.name, task.seed, "test")

            def led_by(browser: Any, task: Any, observe: str = observe, cache: bool = cache) -> Led:
                return Led(vlm, Oracle(browser, task), observe, cache, costs)

            tasks.attempt(fresh, led_by, actions=ACTIONS, observe=observe)
    return {"shop": shop, "costs": [asdict(cost) for cost in costs]}


def per_step(costs: Sequence[dict[str, Any]], observe: str, cache: bool) -> dict[str, float]:
    """Means over the steps after the first, which pays for the tools' description in either case."""
    later = [c for c in costs if (c["observe"], c["cache"]) == (observe, cache) and c["step"] > 1]
    return {name: mean(cost[name] for cost in later) for name in ("prompt", "new", "seconds")}


def shop_table(found: dict[str, Any]) -> list[str]:
    lines = ["| shop, held-out tasks | solved | 95% interval | steps | seconds a step |", "|---|---|---|---|---|"]
    for name, row in found["shop"].items():
        low, high = row["interval"]
        lines.append(
            f"| {name} | {row['success']:.0%} of {row['tasks']} | {low:.0%} to {high:.0%} "
            f"| {row['steps']:.1f} | {row['seconds_per_step']:.2f} |"
        )
    lines += [
        "",
        f"| {found['model']} led through tasks | prompt tokens | of them new | seconds a step |",
        "|---|---|---|---|",
    ]
    for observe, cache in itertools.product(ABOUT, (True, False)):
        row = per_step(found["costs"], observe, cache)
        name = f"{ABOUT[observe]}, prefix cache {'on' if cache else 'off'}"
        lines.append(f"| {name} | {row['prompt']:.0f} | {row['new']:.0f} | {row['seconds']:.2f} |")
    return lines


def game_table(found: dict[str, Any]) -> list[str]:
    players = list(next(iter(found["games"].values())))
    lines = [f"| game | {' | '.join(players)} |", "|---" * (1 + len(players)) + "|"]
    for name, row in found["games"].items():
        rates = (f"{rate:.0%} ({low:.0%} to {high:.0%})" for rate, low, high in (row[player] for player in players))
        lines.append(f"| {name} | {' | '.join(rates)} |")
    return lines


def plot(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for cache, colour in ((True, "#1a56db"), (False, "#be123c")):
        costs = [cost for cost in found["costs"] if (cost["observe"], cost["cache"]) == ("picture", cache)]
        steps = sorted({cost["step"] for cost in costs})
        for axis, name in zip(axes, ("new", "seconds"), strict=True):
            means = [mean(cost[name] for cost in costs if cost["step"] == step) for step in steps]
            axis.plot(steps, means, "o-", color=colour, label=f"prefix cache {'on' if cache else 'off'}")
    for axis, label in zip(axes, ("tokens to compute", "seconds"), strict=True):
        axis.set(xlabel="step of the run", ylabel=label, ylim=(0, None))
        axis.legend()
    figure.suptitle(f"What each new screen costs {found['model']}")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--tasks", type=int, default=46, help="shop tasks for each policy")
    parser.add_argument("--led", type=int, default=4, help="tasks through which the model is led, the longest")
    parser.add_argument("--games", type=int, default=100, help="games of each kind")
    parser.add_argument("--adapter", action="append", type=Path, default=[],
                        help="in a folder named shop or games, what it learned (default: nano's own)")  # fmt: skip
    parser.add_argument("--only", choices=("shop", "games"), help="measure this alone")
    parser.add_argument("--out", type=Path, default=Path("runs/out/agent"))
    args = parser.parse_args()
    own = [Path("shop"), Path("games")] if args.model == "nano" else []
    adapters = {folder.name: folder for folder in args.adapter or own}
    vlm = VLM.load(args.model, adapters=adapters)
    found: dict[str, Any] = {"model": vlm.name}
    args.out.mkdir(parents=True, exist_ok=True)
    parts = []
    if args.only != "games":
        found |= measure_shop(vlm, list(adapters), args.tasks, args.led)
        parts.append(shop_table(found))
        plot(found, args.out / "agent.png")
    if args.only != "shop":
        found["games"] = game_success(vlm, args.games, "games" if "games" in adapters else None)
        parts.append(game_table(found))
    written = "\n\n".join("\n".join(lines) for lines in parts) + "\n"
    (args.out / "agent.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (args.out / "agent.md").write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
