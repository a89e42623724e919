"""What the games share: Gymnasium environments whose observation is their picture and whose actions have names."""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage

from clearsight.agent.games.cards import SIZE

Observation = NDArray[np.uint8]


class Game(gymnasium.Env[Observation, int]):
    """reset(seed=...) begins a game; step(action) takes an index into `actions`.

    The observation is the picture, (H, W, 3) uint8. info: "success", "actions" (names that the rules
    allow now) and "note" (what happened, in words). The reward is 1 at a success, -1 at a failure, and 0 before.
    `longest` steps end a game.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012  (as Gymnasium declares it)
    name = ""
    rules = ""
    actions: tuple[str, ...] = ()
    longest = 20

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(self.actions))  # type: ignore[assignment]
        self.rng = random.Random()
        self.table = 0
        self.taken = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        # Python's generator draws the same on every machine; Gymnasium's own seeds it where no seed is given.
        self.rng = random.Random(f"{self.name}/{seed if seed is not None else self.np_random.integers(2**62)}")
        self.table, self.taken = self.rng.randrange(4), 0
        self.begin()
        return self.render(), self._info(False, "")

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"the action is {action!r}; it must be from 0 to {len(self.actions) - 1}")
        self.taken += 1
        success, note = self.play(self.actions[int(action)])
        over = success is not None
        reward = 0.0 if success is None else 1.0 if success else -1.0
        return self.render(), reward, over, not over and self.taken >= self.longest, self._info(bool(success), note)

    def render(self) -> Observation:
        return np.asarray(self.picture(), np.uint8)

    def begin(self) -> None:
        """Draw a new game from `self.rng`."""
        raise NotImplementedError

    def play(self, action: str) -> tuple[bool | None, str]:
        """(True for a success, False for a failure, None if the game goes on; what happened)."""
        raise NotImplementedError

    def picture(self) -> PillowImage:
        raise NotImplementedError

    def sensible(self) -> tuple[str, ...]:
        """Actions that the rules allow now."""
        return self.actions

    def words(self) -> str:
        """What the picture shows, in words."""
        raise NotImplementedError

    def best(self) -> str:
        """The action of a player who knows the game."""
        raise NotImplementedError

    def thought(self) -> str:
        """What such a player sees in the picture and what follows from it, ending with the action."""
        raise NotImplementedError

    def _info(self, success: bool, note: str) -> dict[str, Any]:
        return {"success": success, "note": note, "actions": self.sensible()}
