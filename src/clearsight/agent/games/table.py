"""A model at a game: its actions become tools, each result shows the table, and success is what the game says."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from clearsight.agent.agent import Agent
from clearsight.agent.chat import Chat, Said
from clearsight.agent.events import Event
from clearsight.agent.games.base import Game
from clearsight.agent.games.play import GAMES
from clearsight.agent.limits import AgentLimits
from clearsight.agent.results import Result
from clearsight.agent.tools import ToolError
from clearsight.messages import Image as Picture
from clearsight.messages import Message, Text, Tool, ToolCall

Player = Callable[[Game, int], Chat]
"""Makes who plays: given the game (which a model does not look into) and the seed."""

_CHOICE = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


_NAMES = {
    "+1": "up",
    "-1": "down",
    "+": "plus",
    "-": "minus",
    "*": "times",
    "/": "over",
    "(": "open",
    ")": "close",
    "=": "equals",
}


def tool_name(action: str) -> str:
    """An action's name as a tool: many servers take letters, digits, _ and - alone."""
    return _NAMES.get(action, action)


@dataclass(frozen=True, slots=True)
class Move:
    """One action of a game as a tool."""

    table: Table
    action: str

    @property
    def spec(self) -> Tool:
        return Tool(tool_name(self.action), f"Play {self.action}.", _CHOICE)

    def call(self, arguments: Mapping[str, Any]) -> Result:
        if arguments:
            raise ToolError(f"{tool_name(self.action)} takes no arguments")
        return self.table.play(self.action)


class Table:
    """A game under way."""

    def __init__(self, game: Game, seed: int) -> None:
        self.game = game
        self._seen, self._info = game.reset(seed=seed)
        self.over = False

    @property
    def success(self) -> bool:
        return bool(self._info["success"])

    @property
    def picture(self) -> Image.Image:
        return Image.fromarray(self._seen)

    def tools(self) -> Sequence[Move]:
        return [Move(self, action) for action in self.game.actions]

    def play(self, action: str) -> Result:
        if self.over:
            raise ToolError("the game is over")
        self._seen, _, ended, cut, self._info = self.game.step(self.game.actions.index(action))
        self.over = ended or cut
        said = [self._info["note"], "The game is over." if self.over else ""]
        return Result((Text(" ".join(filter(None, said)) + "\n" if any(said) else ""), Picture(self.picture)))


def play_game(
    name: str,
    player: Player,
    seed: int,
    *,
    record: str | Path | None = None,
    watch: Callable[[Event], object] = lambda event: None,
    **options: Any,
) -> bool:
    """One game to its end; whether it was a success. watch: told of every event."""
    table = Table(GAMES[name](), seed)
    limits = AgentLimits(steps=table.game.longest + 1, repeats=100)
    agent = Agent(player(table.game, seed), [table], limits=limits, **options)
    run = agent.run(f"{table.game.rules} Play one action at a time.", [table.picture], record=record)
    for event in run:
        watch(event)
        if table.over:
            break
    run.close()  # type: ignore[attr-defined]
    return table.success


def success_rate(name: str, player: Player, seeds: Sequence[int], **options: Any) -> float:
    """Share of these seeds' games that were a success."""
    return sum(play_game(name, player, seed, **options) for seed in seeds) / len(seeds)


class Expert:
    """Says what it sees, then plays as one who knows the game."""

    def __init__(self, game: Game, seed: int) -> None:
        self._game = game

    def chat(self, messages: Sequence[Message], **options: Any) -> Said:
        return _play(self._game.best(), self._game.thought())


class Random:
    """The baseline. allowed: choose among what the rules allow now, not among all actions."""

    def __init__(self, game: Game, seed: int, allowed: bool = False) -> None:
        self._game, self._rng, self._allowed = game, random.Random(f"random/{seed}"), allowed

    def chat(self, messages: Sequence[Message], **options: Any) -> Said:
        return _play(self._rng.choice(self._game.sensible() if self._allowed else self._game.actions))


def _play(action: str, thought: str = "") -> Said:
    return Said(thought, (ToolCall(tool_name(action), "{}", "call"),), finish_reason="tool_calls")
