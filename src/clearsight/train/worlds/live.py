"""The world "live": a video that goes on between questions, as a live session's does: what is there now?"""

from __future__ import annotations

import random
from collections.abc import Iterator

from PIL import Image as Pillow

from clearsight.messages import Limits, Message, Text, Video

from .ink import RGB
from .questions import phrase
from .sample import CELL, Sample, Split
from .scene import SHAPES, Scene, Shape, colours_on, paint, pick_paper, with_article, worn
from .wording import ask

_CHANGE_SHARE = 0.6
_FASTEST = 3.0


def draw_live(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """One shape at a time on 84 x 84 to 168 x 168, replaced by others as time goes on; the last question is judged.

    `level` 0..1 grows the number of questions up to three, and of frames before each up to eight.
    """
    camera = _Camera(rng)
    messages: list[Message] = []
    for _ in range(rng.randint(1, 1 + round(2 * level))):
        # Two frames make one slot of time; a shape comes at the beginning of a slot and stays until the next one's.
        slots = rng.randint(1, 1 + max(1, round(3 * level)))
        changes = set() if messages else {0}
        if rng.random() < _CHANGE_SHARE:
            changes.add(rng.randrange(slots))
        frames = tuple(camera.frames(slots, changes))
        question, answer = _asked(rng, split, camera.kind)
        seen = Video(frames, Limits(min_pixels=4 * CELL * CELL))
        messages += [Message("user", (seen, Text(question))), Message("assistant", (Text(answer),))]
    return Sample(messages=tuple(messages), skill="what is there now")


def _asked(rng: random.Random, split: Split, kind: tuple[str, str]) -> tuple[str, str]:
    shape, colour = kind
    if rng.random() < 0.3:
        return phrase(rng, "now colour", split), colour
    question = phrase(rng, "now", split) if rng.random() < 0.5 else ask(rng, "describe", split)
    return question, with_article(f"{colour} {shape}")


class _Camera:
    """Frames of a stage on which one shape after another drifts to and fro. kind: of the one that is there."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._seed, self._worn = rng, rng.getrandbits(60), rng.getrandbits(60)
        self._side = rng.randint(3, 6) * CELL
        self._paper: RGB = pick_paper(rng)
        self.kind = ("", "")

    def frames(self, slots: int, changes: set[int]) -> Iterator[Pillow.Image]:
        """Two for each slot; another shape comes with each slot of `changes`."""
        for slot in range(slots):
            if slot in changes:
                self._next()
            for _ in range(2):
                yield self._frame()

    def _next(self) -> None:
        rng, before = self._rng, self.kind
        while self.kind == before:
            self.kind = rng.choice(SHAPES), rng.choice(colours_on(self._paper))
        self._radius = rng.uniform(9, 0.22 * self._side)
        self._room = self._side - 2 * self._radius - 4
        self._at = [rng.uniform(0, self._room) for _ in range(2)]
        self._step = [rng.uniform(-_FASTEST, _FASTEST) for _ in range(2)]

    def _frame(self) -> Pillow.Image:
        x, y = (self._radius + 2 + _bounced(along, self._room) for along in self._at)
        scene = Scene(self._side, self._side, self._paper, (Shape(*self.kind, x, y, self._radius),))
        self._at = [along + step for along, step in zip(self._at, self._step, strict=True)]
        # By the same random numbers every time, so that only what moves changes.
        return worn(random.Random(self._worn), scene, paint(random.Random(self._seed), scene))


def _bounced(along: float, room: float) -> float:
    """A way walked to and fro within 0..room."""
    along %= 2 * room
    return min(along, 2 * room - along)
