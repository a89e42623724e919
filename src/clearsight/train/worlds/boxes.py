"""The world "boxes": where things are, in thousandths of the picture (facts, 7.3), and what is in a given box."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from clearsight.messages import Box, Image, Part, Ref, Text

from .marks import Corners
from .questions import absent, phrase
from .sample import CELL, Asked, Sample, Split, talk
from .scene import COLOURS, SHAPES, Scene, Shape, colours_on, paint, pick_paper, place, plural, with_article, worn
from .sheet import Sheet
from .tokens import words

_MOST_ALIKE = 3
# How often each is asked for; in training more of what is hardest.
_TASKS: dict[Split, dict[str, int]] = {
    "train": {"find": 20, "find all": 38, "find none": 4, "name inside": 8, "find word": 30},
    "test": {"find": 40, "find all": 15, "find none": 7, "name inside": 18, "find word": 20},
}
_INSIDE_SHARE = 0.25
_FEW_SHARE = 0.5  # of training: where the only thing is is learned before which of several is meant

Kind = tuple[str, str]  # shape, colour


class Painted(NamedTuple):
    """A scene and its unworn picture, on which boxes are measured."""

    scene: Scene
    picture: Pillow.Image

    def boxes(self, kind: Kind) -> list[Box]:
        """The boxes of all shapes of a kind."""
        shapes = (shape for shape in self.scene.shapes if (shape.name, shape.colour) == kind)
        return [thousandths(shape_box(self.picture, self.scene, shape), self.picture.size) for shape in shapes]


def draw_boxes(rng: random.Random, *, split: Split, level: float = 1.0, turns: int = 1) -> Sample:
    """A scene of 112 x 112 to 224 x 224 to find shapes in, or a sheet of words; `level` 0..1 grows their number.

    turns: up to so many questions about it.
    """
    if split == "train" and rng.random() < _FEW_SHARE:
        level = 0.0
    task = rng.choices(list(_TASKS[split]), list(_TASKS[split].values()))[0]
    if task == "find word":
        picture, asked = _words(rng, split, level)
    else:
        several = rng.randint(2, 1 + max(1, round((_MOST_ALIKE - 1) * level)))
        scene, kind = _scene(rng, level, {"find none": 0, "find all": several}.get(task, 1))
        painted = Painted(scene, paint(rng, scene))
        picture = worn(rng, scene, painted.picture.copy())
        asked = _asked(rng, split, painted, None if task == "name inside" else kind)
    return talk(Image(picture), next(asked), asked, turns)


def thousandths(corners: Corners, size: tuple[int, int]) -> Box:
    """Pixels of a picture of `size` as a box in thousandths."""
    sides = (*size, *size)
    x1, y1, x2, y2 = (min(1000, max(0, round(1000 * v / side))) for v, side in zip(corners, sides, strict=True))
    return Box(x1, y1, x2, y2)


def shape_box(picture: Pillow.Image, scene: Scene, shape: Shape) -> Corners:
    """The pixels of `shape` on an unworn picture of `scene`: those nearer to its colour than to paper."""
    rows, columns = np.mgrid[: scene.height, : scene.width]
    # Neighbours, which may have nearly the same colour, keep a distance of three pixels.
    near = np.hypot(columns + 0.5 - shape.x, rows + 0.5 - shape.y) <= shape.radius + 1.5
    pixels = np.asarray(picture, dtype=np.int32)
    to_paper = ((pixels - np.array(scene.paper)) ** 2).sum(-1)
    to_colour = ((pixels - np.array(COLOURS[shape.colour])) ** 2).sum(-1)
    ys, xs = np.nonzero(near & (to_colour < to_paper))
    return float(xs.min()), float(ys.min()), float(xs.max()) + 1, float(ys.max()) + 1


def _scene(rng: random.Random, level: float, alike: int) -> tuple[Scene, Kind]:
    """A scene with `alike` shapes of the returned kind and some of other kinds."""
    size = rng.randint(4, 8) * CELL, rng.randint(4, 8) * CELL
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    paper = pick_paper(rng, colour)
    palette = colours_on(paper)
    kinds = [(shape, colour)] * alike
    others = rng.randint(0 if alike else 1, max(1, round(5 * level)))
    while len(kinds) < alike + others:
        other = rng.choice(SHAPES), rng.choice(palette)
        if other != (shape, colour):
            kinds.append(other)
    return Scene(*size, paper, place(rng, size, kinds, largest=0.3)), (shape, colour)


def _asked(rng: random.Random, split: Split, painted: Painted, first: Kind | None) -> Iterator[Asked]:
    """Where those of the kind `first` are, or what is in a box if it is None; then about the rest in any order.

    Each is asked about once, or the second answer could be copied from the first.
    """
    kinds = list(dict.fromkeys((shape.name, shape.colour) for shape in painted.scene.shapes))
    if first is None:
        first = rng.choice(kinds)
        yield _inside(rng, split, painted, first)
    else:
        yield _found(rng, split, painted, first)
    other = rng.choice(SHAPES), rng.choice(colours_on(painted.scene.paper))  # which hardly ever is there
    rest = [kind for kind in dict.fromkeys((*kinds, other)) if kind != first]
    for kind in rng.sample(rest, len(rest)):
        inside = kind in kinds and rng.random() < _INSIDE_SHARE
        yield _inside(rng, split, painted, kind) if inside else _found(rng, split, painted, kind)


def _found(rng: random.Random, split: Split, painted: Painted, kind: Kind) -> Asked:
    (shape, colour), boxes = kind, painted.boxes(kind)
    name, names = f"{colour} {shape}", f"{colour} {plural(shape)}"
    if not boxes:
        return Asked(phrase(rng, "box", split, name=name), absent(name), "honesty")
    if len(boxes) == 1:
        return Asked(phrase(rng, "box", split, name=name), (Ref(name), *boxes), "box", "iou")
    parts: tuple[Part, ...] = (Ref(names), *sorted(boxes, key=lambda box: (box.x1, box.y1)))
    return Asked(phrase(rng, "boxes", split, names=names), parts, "several boxes", "iou")


def _inside(rng: random.Random, split: Split, painted: Painted, kind: Kind) -> Asked:
    question = Text(phrase(rng, "in box", split) + " "), rng.choice(painted.boxes(kind)), Text("?")
    return Asked(question, with_article(f"{kind[1]} {kind[0]}"), "what is in a box")


def _words(rng: random.Random, split: Split, level: float) -> tuple[Pillow.Image, Iterator[Asked]]:
    """A sheet of words, one below the other, and where each is."""
    sheet = Sheet(rng, split, (rng.randint(5, 8), rng.randint(4, 7)))
    chosen = rng.sample([word for word in words(split, 7) if len(word) > 2], 2 + rng.randint(0, round(4 * level)))
    pitch = (sheet.height - 16) / len(chosen)
    size = min(20.0, pitch * rng.uniform(0.55, 0.75))
    found = []
    for row, word in enumerate(chosen):
        x = rng.uniform(8, max(9.0, sheet.width - 10 - sheet.measure(word, size)))
        corners = sheet.text((x, 8 + row * pitch), word, size, room=sheet.width - 16)
        found.append((Ref(word), thousandths(corners, (sheet.width, sheet.height))))
    rng.shuffle(found)
    picture = sheet.finish(tilt=0)
    asked = (
        Asked(phrase(rng, "box word", split, name=ref.text), (ref, box), "box of a word", "iou") for ref, box in found
    )
    return picture, asked
