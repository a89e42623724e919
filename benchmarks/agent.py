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
from clearsight.agent import AgentLimits, Chat
from clearsight.agent.games import GAMES, Expert, Random, success_rate
from clearsight.agent.shop import Chance, Oracle, Tasks, draw_tasks
from clearsight.eval import wilson
from clearsight.model.hub import resolve

ACTIONS = ("Click", "Type", "Scroll", "Enter", "Done")


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one answer of the model cost. new: tokens of the prompt that no cache held."""

    cache: bool
    step: int
    prompt: int
    new: int
    seconds: float


class Led:
    """Asks the model with the whole conversation, takes the time, and answers what the leader would."""

    def __init__(self, vlm: VLM, leader: Chat, cache: bool, costs: list[StepCost]) -> None:
        self._vlm, self._leader, self._cache, self._costs = vlm, leader, cache, costs
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
        self._costs.append(StepCost(self._cache, self._step, prompt, prompt - held, seconds))
        return self._leader.chat(messages, **options)


def shop_success(tasks: Tasks, count: int, policy: Callable[..., Any], **options: Any) -> dict[str, Any]:
    attempts = [tasks.attempt(task, policy, actions=ACTIONS, **options) for task in draw_tasks(count, "test")]
    solved = sum(attempt.solved for attempt in attempts)
    low, high = wilson(solved, count)
    return {
        "success": solved / count,
        "interval": [low, high],
        "tasks": count,
        "steps": mean(len(attempt.steps) for attempt in attempts),
        "seconds_per_step": mean(step.seconds for a in attempts for step in a.steps)
        if any(a.steps for a in attempts)
        else 0.0,
    }


def game_success(vlm: VLM, games: int, adapter: str | None) -> dict[str, dict[str, float]]:
    """Success rates by game and player; adapter: of the model, which does not play without one."""
    options = {"sampling": SamplingParams(max_tokens=96), "adapter": adapter}
    players: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {"expert": (Expert, {}), "chance": (Random, {})}
    if adapter:
        players[f"{vlm.name} with its adapter"] = (lambda game, seed: vlm, options)
    return {
        name: {who: success_rate(name, player, range(games), **settings) for who, (player, settings) in players.items()}
        for name in GAMES
    }


def measure(vlm: VLM, count: int, led: int, games: int, adapter: str | None) -> dict[str, Any]:
    nano = {"sampling": SamplingParams(max_tokens=64), "limits": AgentLimits(steps=8)}
    costs: list[StepCost] = []
    with Tasks() as tasks:
        shop = {
            "script that knows the way": shop_success(tasks, count, Oracle),
            "chance": shop_success(tasks, count, lambda browser, task: Chance(task.seed)),
            vlm.name: shop_success(tasks, count, lambda browser, task: vlm, **nano),
        }
        longest = sorted(draw_tasks(46, "test"), key=lambda task: -len(task.way))[:led]
        for cache, task in itertools.product((True, False), longest):
            fresh = next(t for t in draw_tasks(46, "test") if (t.name, t.seed) == (task.name, task.seed))
            tasks.attempt(fresh, lambda browser, t, on=cache: Led(vlm, Oracle(browser, t), on, costs), actions=ACTIONS)
    played = game_success(vlm, games, adapter)
    return {"model": vlm.name, "shop": shop, "games": played, "costs": [asdict(cost) for cost in costs]}


def per_step(costs: Sequence[dict[str, Any]], cache: bool) -> dict[str, float]:
    """Means over the steps after the first, which pays for the tools' description in either case."""
    later = [cost for cost in costs if cost["cache"] == cache and cost["step"] > 1]
    return {name: mean(cost[name] for cost in later) for name in ("prompt", "new", "seconds")}


def table(found: dict[str, Any]) -> str:
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
    for cache in (True, False):
        row = per_step(found["costs"], cache)
        name = f"prefix cache {'on' if cache else 'off'}"
        lines.append(f"| {name} | {row['prompt']:.0f} | {row['new']:.0f} | {row['seconds']:.2f} |")
    players = list(next(iter(found["games"].values())))
    lines += ["", f"| game | {' | '.join(players)} |", "|---" * (1 + len(players)) + "|"]
    lines += [
        f"| {name} | {' | '.join(f'{row[player]:.0%}' for player in players)} |" for name, row in found["games"].items()
    ]
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for cache, colour in ((True, "#1a56db"), (False, "#be123c")):
        costs = [cost for cost in found["costs"] if cost["cache"] == cache]
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
    parser.add_argument("--adapter", type=Path, help="of a model that learned the games (default: nano's own)")
    parser.add_argument("--out", type=Path, default=Path("runs/out/agent"))
    args = parser.parse_args()
    adapter = args.adapter or (resolve("nano") / "games" if args.model == "nano" else None)
    vlm = VLM.load(args.model, adapters={"games": adapter} if adapter else {})
    found = measure(vlm, args.tasks, args.led, args.games, "games" if adapter else None)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "agent.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (args.out / "agent.md").write_text(table(found), encoding="utf-8")
    plot(found, args.out / "agent.png")
    print(table(found))
    print(json.dumps({name: per_step(found["costs"], name == "on") for name in ("on", "off")}))


if __name__ == "__main__":
    main()
