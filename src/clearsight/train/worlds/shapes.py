"""The world "shapes": counting, naming and finding coloured shapes, with answers that priors cannot guess."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from clearsight.messages import Image

from .ink import RGB
from .sample import CELL, Asked, Sample, Split, talk
from .scene import (
    COLOURS,
    SHAPES,
    Scene,
    Shape,
    article,
    colours_on,
    photograph,
    pick_paper,
    place,
    plural,
    with_article,
)
from .wording import ask

NO_TEXT = "There is no text."

SIDES = ("left", "right", "top", "bottom")

_LENGTHS = (4 * CELL, 5 * CELL, 6 * CELL)
_MOST = 9
_MOST_DISTRACTORS = 5
_MOST_LISTED = 6
_APART = 5.0  # pixels between two centres whose order from left to right can be told

Kind = tuple[str, str]  # shape, colour


def draw_shapes(rng: random.Random, *, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """A scene of 112 x 112 to 168 x 168 with coloured shapes; `level` 0..1 grows their number up to nine.

    turns: up to so many questions about the scene.
    """
    scene, first = pose(rng, split=split, level=level)
    picture = photograph(rng, scene)
    more: Iterable[Asked] = (further(rng, scene, split) for _ in range(3 * turns))
    if first.skill == "count":  # by shape and by colour it takes the most practice
        more = itertools.chain(itertools.islice(_counts(rng, scene, split), rng.randrange(turns)), more)
    return talk(Image(picture), first, more, turns)


def pose(rng: random.Random, *, split: Split, level: float = 1.0) -> tuple[Scene, Asked]:
    """The scene of a sample before it is painted, with what is asked."""
    task = rng.choices(list(_TASKS), list(_TASKS.values()))[0]
    return task(rng, split, level)


def further(rng: random.Random, scene: Scene, split: Split) -> Asked:
    """A question that a scene can be asked whatever it was made for."""
    tasks = rng.sample(_FURTHER, len(_FURTHER))
    return next(asked for task in tasks if (asked := task(rng, scene, split)))


def _named(rng: random.Random, scene: Scene, share: float = 0.6) -> Kind:
    """A shape and a colour to ask for; with probability `share` there is such a shape, if there is any."""
    if scene.shapes and rng.random() < share:
        chosen = rng.choice(scene.shapes)
        return chosen.name, chosen.colour
    return rng.choice(SHAPES), rng.choice(colours_on(scene.paper))


def _further_count(rng: random.Random, scene: Scene, split: Split) -> Asked:
    shape, colour = _named(rng, scene, 0.8)
    return _counted(rng, scene, split, *rng.choice(((None, None), (None, colour), (shape, None), (shape, colour))))


def _counts(rng: random.Random, scene: Scene, split: Split) -> Iterator[Asked]:
    """How many there are of each shape, of each colour, and of kinds that are there or nearly; no two are the same."""
    palette = colours_on(scene.paper)
    asked: list[tuple[str | None, str | None]] = [(shape, None) for shape in SHAPES]
    asked += [(None, colour) for colour in palette]
    asked += dict.fromkeys((shape.name, rng.choice((shape.colour, rng.choice(palette)))) for shape in scene.shapes)
    shown = {None, *(shape.name for shape in scene.shapes), *(shape.colour for shape in scene.shapes)}
    # What is not there makes for easy answers, so it comes later; what takes longest to learn comes earlier.
    for shape, colour in sorted(asked, key=lambda k: rng.random() + (not shown.issuperset(k)) + 0.3 * (k[1] is None)):
        yield _counted(rng, scene, split, shape, colour)


def _counted(rng: random.Random, scene: Scene, split: Split, shape: str | None, colour: str | None) -> Asked:
    """How many shapes of that name and colour there are; None: of any."""
    form = "count both" if shape and colour else "count shape" if shape else "count colour" if colour else "count"
    number = sum(shape in (None, seen.name) and colour in (None, seen.colour) for seen in scene.shapes)
    slots = {"shape": shape or "", "colour": colour or "", "shapes": plural(shape or "")}
    return Asked(ask(rng, form, split, **slots), str(number), "count", topic=f"{colour} {shape}")


def _further_exists(rng: random.Random, scene: Scene, split: Split) -> Asked:
    shape, colour = _named(rng, scene, 0.4)
    form = rng.choice(("exists", "exists shape", "exists colour"))
    found = any(
        (form == "exists colour" or s.name == shape) and (form == "exists shape" or s.colour == colour)
        for s in scene.shapes
    )
    return _existing(rng, form, split, (shape, colour), found)


def _existing(rng: random.Random, form: str, split: Split, kind: Kind, found: bool) -> Asked:
    shape, colour = kind
    noun = {"exists": f"{colour} {shape}", "exists shape": shape, "exists colour": colour}[form]
    question = ask(rng, form, split, colour=colour, shape=shape, a=article(noun))
    return Asked(question, "yes" if found else "no", "exists", topic=noun)


_ATTRIBUTES = {"shape": "name", "colour": "colour"}


def _further_attribute(asked: str, given: str, rng: random.Random, scene: Scene, split: Split) -> Asked | None:
    """One attribute of a shape that the other tells from all the rest."""
    known = [getattr(shape, _ATTRIBUTES[given]) for shape in scene.shapes]
    single = [shape for shape, value in zip(scene.shapes, known, strict=True) if known.count(value) == 1]
    if not single:
        return None
    chosen = rng.choice(single)
    slots = {given: getattr(chosen, _ATTRIBUTES[given])}
    return Asked(ask(rng, asked, split, **slots), getattr(chosen, _ATTRIBUTES[asked]), asked)


def _further_where(rng: random.Random, scene: Scene, split: Split) -> Asked | None:
    kinds = [(shape.name, shape.colour) for shape in scene.shapes]
    placed = [
        (shape, sides)
        for shape in scene.shapes
        if kinds.count((shape.name, shape.colour)) == 1 and (sides := sides_of(shape, scene))
    ]
    if not placed:
        return None
    shape, sides = rng.choice(placed)
    side = rng.choice(sides)
    return _placed(rng, split, (shape.name, shape.colour), side, free=len(sides) == 1)


def _placed(rng: random.Random, split: Split, kind: Kind, side: str, *, free: bool) -> Asked:
    """On which side one of a kind is; free: without naming two to choose from."""
    shape, colour = kind
    form = "where" if free else "left or right" if side in SIDES[:2] else "top or bottom"
    return Asked(ask(rng, form, split, colour=colour, shape=shape), side, "where", topic=f"{colour} {shape}")


def _further_list(rng: random.Random, scene: Scene, split: Split) -> Asked | None:
    ordered = sorted(scene.shapes, key=lambda shape: shape.x)
    if not ordered or any(b.x - a.x < _APART for a, b in itertools.pairwise(ordered)):
        return None
    listed = ", ".join(f"{shape.colour} {shape.name}" for shape in ordered)
    return Asked(ask(rng, "list", split), listed, "list", late=1)


# --- the tasks: each chooses its answer first, so that in a test all answers are equally likely --------------


def _count(rng: random.Random, split: Split, level: float) -> tuple[Scene, Asked]:
    most = 1 + round((_MOST - 1) * level)
    # Training counts many more often than few, and chosen ones more often than all, which are learned long before.
    number = rng.randint(most // 2 + 1 if split == "train" and rng.random() < 0.5 else 0, most)
    paper = pick_paper(rng)
    palette = colours_on(paper)
    if rng.random() < (0.2 if split == "train" else 0.4):
        kinds = _crowd(rng, palette, number)
        scene = _scene(rng, paper, kinds)
        return scene, _counted(rng, scene, split, None, None)
    shape, colour = rng.choice(SHAPES), rng.choice(palette)
    # By colour is learned last of all.
    form = rng.choice(
        ("count colour", "count shape", "count both", *["count colour", "count both"] * (split == "train"))
    )
    by_colour, by_shape = form != "count shape", form != "count colour"

    def counts(kind: Kind) -> bool:
        return (kind[1] == colour or not by_colour) and (kind[0] == shape or not by_shape)

    wanted = [
        (shape if by_shape else rng.choice(SHAPES), colour if by_colour else rng.choice(palette)) for _ in range(number)
    ]
    others = rng.randint(0 if number else 1, max(1, round(_MOST_DISTRACTORS * level)))
    near = [(shape, colour)] * (form == "count both")
    kinds = wanted + _distractors(rng, palette, others, counts, near)
    scene = _scene(rng, paper, kinds)
    return scene, _counted(rng, scene, split, shape if by_shape else None, colour if by_colour else None)


def _colour(rng: random.Random, split: Split, level: float) -> tuple[Scene, Asked]:
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    paper = pick_paper(rng, colour)
    others = rng.randint(0, round(_MOST_DISTRACTORS * level))
    kinds = [(shape, colour), *_distractors(rng, colours_on(paper), others, lambda kind: kind[0] == shape)]
    return _scene(rng, paper, kinds), Asked(ask(rng, "colour", split, shape=shape), colour, "colour")


def _shape(rng: random.Random, split: Split, level: float) -> tuple[Scene, Asked]:
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    paper = pick_paper(rng, colour)
    others = rng.randint(0, round(_MOST_DISTRACTORS * level))
    kinds = [(shape, colour), *_distractors(rng, colours_on(paper), others, lambda kind: kind[1] == colour)]
    return _scene(rng, paper, kinds), Asked(ask(rng, "shape", split, colour=colour), shape, "shape")


def _describe(rng: random.Random, split: Split, _level: float) -> tuple[Scene, Asked]:
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    scene = _scene(rng, pick_paper(rng, colour), [(shape, colour)])
    return scene, Asked(ask(rng, "describe", split), with_article(f"{colour} {shape}"), "describe")


def _where(rng: random.Random, split: Split, level: float) -> tuple[Scene, Asked]:
    side = rng.choice(SIDES)
    free = rng.random() < 0.4
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    paper = pick_paper(rng, colour)
    others = rng.randint(0, round(3 * level))
    kinds = [(shape, colour), *_distractors(rng, colours_on(paper), others, lambda kind: kind == (shape, colour))]
    while True:
        scene = _scene(rng, paper, kinds)
        if side in sides_of(scene.shapes[0], scene) and (not free or len(sides_of(scene.shapes[0], scene)) == 1):
            break
    return scene, _placed(rng, split, (shape, colour), side, free=free)


def _exists(rng: random.Random, split: Split, level: float) -> tuple[Scene, Asked]:
    yes = rng.random() < 0.5
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    paper = pick_paper(rng, colour)
    form = rng.choice(("exists", "exists", "exists shape", "exists colour"))

    def asked(kind: Kind) -> bool:
        return (form == "exists shape" or kind[1] == colour) and (form == "exists colour" or kind[0] == shape)

    number = rng.randint(1, 1 + round(_MOST_DISTRACTORS * level))
    near = [(shape, colour)] * (form == "exists")
    palette = colours_on(paper)
    seen = (
        shape if form != "exists colour" else rng.choice(SHAPES),
        colour if form != "exists shape" else rng.choice(palette),
    )
    kinds = [seen] * yes + _distractors(rng, palette, number - yes, asked, near)
    question = _existing(rng, form, split, (shape, colour), yes)
    return _scene(rng, paper, kinds), question


def _no_text(rng: random.Random, split: Split, level: float) -> tuple[Scene, Asked]:
    paper = pick_paper(rng)
    kinds = _crowd(rng, colours_on(paper), rng.randint(0, 1 + round((_MOST - 1) * level)))
    return _scene(rng, paper, kinds), Asked(ask(rng, "read", split), NO_TEXT, "honesty")


def _list(rng: random.Random, split: Split, level: float) -> tuple[Scene, Asked]:
    most = 1 + round((_MOST_LISTED - 1) * level)
    number = rng.randint(1, most)
    while True:
        paper = pick_paper(rng)
        scene = _scene(rng, paper, _crowd(rng, colours_on(paper), number))
        if asked := _further_list(rng, scene, split):
            return scene, asked


_Task = Callable[[random.Random, Split, float], tuple[Scene, Asked]]
_TASKS: dict[_Task, int] = {
    _count: 34, _colour: 8, _shape: 8, _describe: 8, _where: 18, _exists: 16, _no_text: 4, _list: 20,
}  # fmt: skip
_Further = Callable[[random.Random, Scene, Split], "Asked | None"]
_FURTHER: tuple[_Further, ...] = (
    _further_count, _further_exists, partial(_further_attribute, "colour", "shape"),
    partial(_further_attribute, "shape", "colour"), _further_where, _further_list,
)  # fmt: skip


# --- scenes ------------------------------------------------------------------------------------------------


def sides_of(shape: Shape, scene: Scene) -> list[str]:
    """The sides on which `shape` clearly lies: its centre is at least a seventh of the sheet away from the middle."""
    sides = []
    for offset, names in ((shape.x / scene.width, SIDES[:2]), (shape.y / scene.height, SIDES[2:])):
        if abs(offset - 0.5) >= 1 / 7:
            sides.append(names[offset > 0.5])
    return sides


def _scene(rng: random.Random, paper: RGB, kinds: list[Kind]) -> Scene:
    size = rng.choice(_LENGTHS), rng.choice(_LENGTHS)
    return Scene(*size, paper, place(rng, size, kinds))


def _crowd(rng: random.Random, palette: list[str], number: int) -> list[Kind]:
    """`number` kinds; one crowd in three has a single shape, one in three a single colour."""
    style = rng.randrange(3)
    shapes = [rng.choice(SHAPES)] if style == 0 else SHAPES
    colours = [rng.choice(palette)] if style == 1 else palette
    return [(rng.choice(shapes), rng.choice(colours)) for _ in range(number)]


def _distractors(
    rng: random.Random,
    palette: list[str],
    number: int,
    forbidden: Callable[[Kind], bool],
    near: list[Kind] | None = None,
) -> list[Kind]:
    """`number` kinds that are not `forbidden`; half of them share the shape or the colour of one of `near`."""
    kinds: list[Kind] = []
    while len(kinds) < number:
        shape, colour = rng.choice(SHAPES), rng.choice(palette)
        if near and rng.random() < 0.5:
            like = rng.choice(near)
            shape, colour = (like[0], colour) if rng.random() < 0.5 else (shape, like[1])
        if not forbidden((shape, colour)):
            kinds.append((shape, colour))
    return kinds
