"""The world "clips": short videos of shapes that move or appear: what, where to, in which order, how many, when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image as Pillow

from clearsight.messages import Limits, Video

from .ink import RGB
from .questions import absent, phrase
from .sample import CELL, Asked, Sample, Split, talk
from .scene import SHAPES, Scene, Shape, colours_on, paint, pick_paper, with_article, worn

DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
TIMES = ("at the start", "in the middle", "at the end")
_STEP = 9.0
_FRAMES = (4, 6, 8)
_ENLARGED_SHARE = 0.12


@dataclass(frozen=True, slots=True)
class Actor:
    """A shape where it is in the first frame, what it moves by from frame to frame, and the frame it appears in."""

    shape: Shape
    step: tuple[float, float] = (0.0, 0.0)
    appears: int = 0

    @property
    def name(self) -> str:
        return f"{self.shape.colour} {self.shape.name}"

    def at(self, frame: int) -> Shape:
        return replace(self.shape, x=self.shape.x + self.step[0] * frame, y=self.shape.y + self.step[1] * frame)


@dataclass(frozen=True, slots=True)
class Clip:
    """Actors on a square stage of `side` pixels for `frames` frames."""

    side: int
    frames: int
    paper: RGB
    actors: tuple[Actor, ...]


def draw_clips(rng: random.Random, *, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """Four to eight frames of 84 x 84 to 112 x 112; `level` 0..1 grows the number of shapes.

    turns: up to so many questions about the clip.
    """
    clip, first = pose_clip(rng, split, level)
    frames = tuple(paint_clip(rng, clip))
    # Small frames are enlarged to what a video's frame has at least, at many times the cost; so only some are.
    limits = Limits() if rng.random() < _ENLARGED_SHARE else Limits(min_pixels=4 * CELL * CELL)
    return talk(Video(frames, limits), first, (further(rng, clip, split) for _ in range(3 * turns)), turns)


def pose_clip(rng: random.Random, split: Split, level: float) -> tuple[Clip, Asked]:
    """The clip of a sample before it is painted, with what is asked."""
    return rng.choices(list(_TASKS), list(_TASKS.values()))[0](rng, split, level)


def paint_clip(rng: random.Random, clip: Clip) -> list[Pillow.Image]:
    """The frames. Every frame is painted by the same random numbers, so that only what moves changes."""
    seed, wear = rng.getrandbits(60), rng.getrandbits(60)
    # Those that come later are painted last, so that they do not shift the random numbers of the others.
    actors = sorted(clip.actors, key=lambda actor: actor.appears)
    frames = []
    for number in range(clip.frames):
        shown = tuple(actor.at(number) for actor in actors if actor.appears <= number)
        scene = Scene(clip.side, clip.side, clip.paper, shown)
        frames.append(worn(random.Random(wear), scene, paint(random.Random(seed), scene)))
    return frames


def further(rng: random.Random, clip: Clip, split: Split) -> Asked:
    """A question that a clip can be asked whatever it was made for."""
    movers = [actor for actor in clip.actors if actor.step != (0.0, 0.0)]
    later = sorted(clip.actors, key=lambda actor: actor.appears)
    if later and later[-1].appears:
        forms = ["when", "when"]
        if len(later) > 1 and later[-1].appears > later[-2].appears:
            forms += ["last", "order", "order"]
    else:
        forms = ["how many move", *["moved where"] * 2 * bool(movers), *["what moved"] * (len(movers) == 1)]
    form = rng.choice(forms)
    if form == "how many move":
        return _moving(rng, split, len(movers))
    if form == "moved where":
        return _moved(rng, split, rng.choice(movers))
    if form == "what moved":
        return _mover(rng, split, movers[0])
    if form == "when":
        return _appears(rng, split, rng.choice(later))
    if form == "last":
        return _last(rng, split, later[-1])
    return _first(rng, split, rng.choice([actor for actor in later if actor.appears < later[-1].appears]), later[-1])


# --- the questions: who is asked where something moves has heard that it does, so what tells most comes last --


def _moving(rng: random.Random, split: Split, number: int) -> Asked:
    return Asked(phrase(rng, "how many move", split), str(number), "how many move", topic="all")


def _mover(rng: random.Random, split: Split, actor: Actor) -> Asked:
    return Asked(phrase(rng, "what moved", split), with_article(actor.name), "what moves", late=1)


def _moved(rng: random.Random, split: Split, actor: Actor) -> Asked:
    question = phrase(rng, "moved where", split, name=actor.name)
    return Asked(question, _direction(actor.step), "where it moves", topic=actor.name, late=2)


def _first(rng: random.Random, split: Split, earlier: Actor, later: Actor) -> Asked:
    one, two = rng.sample((earlier.name, later.name), 2)
    return Asked(phrase(rng, "order", split, one=one, two=two), f"the {earlier.name}", "order")


def _last(rng: random.Random, split: Split, actor: Actor) -> Asked:
    return Asked(phrase(rng, "last", split), with_article(actor.name), "order", late=1)


def _appears(rng: random.Random, split: Split, actor: Actor) -> Asked:
    question = phrase(rng, "when", split, name=actor.name)
    return Asked(question, TIMES[actor.appears // 2], "when", topic=actor.name, late=2)


# --- the tasks ---------------------------------------------------------------------------------------------


def _stage(rng: random.Random, number: int, movers: int, frames: int | None = None) -> Clip:
    """`number` shapes of different kinds in rows or columns of their own; the first `movers` move along them."""
    side, frames = rng.randint(3, 4) * CELL, frames or rng.choice(_FRAMES)
    paper = pick_paper(rng)
    kinds: list[tuple[str, str]] = []
    while len(kinds) < number:
        kind = rng.choice(SHAPES), rng.choice(colours_on(paper))
        if kind not in kinds:
            kinds.append(kind)
    across = rng.random() < 0.5
    lanes = rng.sample(range(number), number)
    actors = [
        _actor(rng, kind, (side, frames), (across, (lane + 0.5) * side / number, side / number), index < movers)
        for index, (kind, lane) in enumerate(zip(kinds, lanes, strict=True))
    ]
    return Clip(side, frames, paper, tuple(actors))


def _actor(
    rng: random.Random, kind: tuple[str, str], clip: tuple[int, int], lane: tuple[bool, float, float], moves: bool
) -> Actor:
    (side, frames), (across, middle, width) = clip, lane
    radius = min(14.0, width / 2 - 1.5, rng.uniform(9, 14))
    step = min(_STEP, (side - 2 * radius - 4) / (frames - 1)) * rng.choice((-1, 1)) if moves else 0.0
    travel = step * (frames - 1)
    low, high = radius + 2 + max(0.0, -travel), side - radius - 2 - max(0.0, travel)
    along = rng.uniform(low, max(low, high))
    x, y = (along, middle) if across else (middle, along)
    return Actor(Shape(*kind, x, y, radius), (step, 0.0) if across else (0.0, step))


def _direction(step: tuple[float, float]) -> str:
    x, y = ((value > 0) - (value < 0) for value in step)
    return next(name for name, way in DIRECTIONS.items() if way == (x, y))


def _number(rng: random.Random, level: float) -> int:
    return rng.randint(1, 1 + max(1, round(2 * level)))


def _where_to(rng: random.Random, split: Split, level: float) -> tuple[Clip, Asked]:
    number = _number(rng, level)
    clip = _stage(rng, number, rng.randint(1, number))
    actor = clip.actors[0]
    return clip, _moved(rng, split, actor)


def _what_moved(rng: random.Random, split: Split, level: float) -> tuple[Clip, Asked]:
    clip = _stage(rng, max(2, _number(rng, level)), 1)
    return clip, _mover(rng, split, clip.actors[0])


def _how_many(rng: random.Random, split: Split, level: float) -> tuple[Clip, Asked]:
    number = rng.randint(1, 1 + max(1, round(3 * level)))
    movers = rng.randint(0, number)
    return _stage(rng, number, movers), _moving(rng, split, movers)


def _order(rng: random.Random, split: Split, level: float) -> tuple[Clip, Asked]:
    number = rng.randint(2, 2 + round(level))
    clip = _stage(rng, number, 0, frames=max(6, 2 * number))
    order = rng.sample(clip.actors, number)
    # Two frames make one slot of time, so each comes in a slot of its own.
    clip = replace(clip, actors=tuple(replace(actor, appears=2 * i) for i, actor in enumerate(order)))
    if rng.random() < 0.3:
        return clip, _last(rng, split, order[-1])
    one, two = sorted(rng.sample(range(number), 2))
    return clip, _first(rng, split, order[one], order[two])


def _when(rng: random.Random, split: Split, level: float) -> tuple[Clip, Asked]:
    clip = _stage(rng, _number(rng, level), 0, frames=6)
    slot = rng.randrange(3)
    actors = [replace(actor, appears=2 * rng.randrange(3)) for actor in clip.actors]
    actors[0] = replace(actors[0], appears=2 * slot)
    return replace(clip, actors=tuple(actors)), _appears(rng, split, actors[0])


def _nothing(rng: random.Random, split: Split, level: float) -> tuple[Clip, Asked]:
    clip = _stage(rng, _number(rng, level) + 1, 1)
    # The last actor leaves the stage before the clip begins.
    missing, rest = clip.actors[-1], clip.actors[:-1]
    question = phrase(rng, rng.choice(("moved where", "when")), split, name=missing.name)
    return replace(clip, actors=rest), Asked(question, absent(missing.name), "honesty")


_Task = Callable[[random.Random, Split, float], tuple[Clip, Asked]]
_TASKS: dict[_Task, int] = {_where_to: 30, _what_moved: 18, _how_many: 16, _order: 18, _when: 14, _nothing: 4}
