"""The world "boxes": where things are, in thousandths of the picture (facts, 7.3), and what is in a given box."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image as Pillow

from clearsight.messages import Box, Image, Message, Part, Ref, Text

from .marks import Corners
from .questions import absent, phrase
from .sample import CELL, Sample, Split, about
from .scene import (
    COLOURS,
    SHAPES,
    Scene,
    Shape,
    colours_on,
    paint,
    photograph,
    pick_paper,
    place,
    plural,
    with_article,
    worn,
)
from .sheet import Sheet
from .tokens import words

_MOST_ALIKE = 3


def draw_boxes(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """A scene of 112 x 112 to 224 x 224 to find shapes in, or a sheet of words; `level` 0..1 grows their number."""
    task = rng.choices(list(_TASKS), list(_TASKS.values()))[0]
    return task(rng, split, level)


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


def _scene(rng: random.Random, level: float, alike: int) -> tuple[Scene, tuple[str, str]]:
    """A scene with `alike` shapes of the returned (shape, colour) and some of other kinds."""
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


def _find(rng: random.Random, split: Split, level: float) -> Sample:
    scene, (shape, colour) = _scene(rng, level, 1)
    picture, name = paint(rng, scene), f"{colour} {shape}"
    box = thousandths(shape_box(picture, scene, scene.shapes[0]), picture.size)
    return about(worn(rng, scene, picture), phrase(rng, "box", split, name=name), (Ref(name), box), "box", "iou")


def _find_all(rng: random.Random, split: Split, level: float) -> Sample:
    scene, (shape, colour) = _scene(rng, level, rng.randint(2, 1 + max(1, round((_MOST_ALIKE - 1) * level))))
    picture, name = paint(rng, scene), f"{colour} {plural(shape)}"
    alike = [item for item in scene.shapes if (item.name, item.colour) == (shape, colour)]
    boxes = [thousandths(shape_box(picture, scene, item), picture.size) for item in alike]
    parts: list[Part] = [Ref(name), *sorted(boxes, key=lambda box: (box.x1, box.y1))]
    return about(
        worn(rng, scene, picture), phrase(rng, "boxes", split, names=name), tuple(parts), "several boxes", "iou"
    )


def _find_none(rng: random.Random, split: Split, level: float) -> Sample:
    scene, (shape, colour) = _scene(rng, level, 0)
    name = f"{colour} {shape}"
    return about(photograph(rng, scene), phrase(rng, "box", split, name=name), absent(name), "honesty")


def _name_inside(rng: random.Random, split: Split, level: float) -> Sample:
    scene, _ = _scene(rng, level, 1)
    picture, shape = paint(rng, scene), rng.choice(scene.shapes)
    box = thousandths(shape_box(picture, scene, shape), picture.size)
    user = Message("user", (Image(worn(rng, scene, picture)), Text(phrase(rng, "in box", split) + " "), box, Text("?")))
    answer = Message("assistant", (Text(with_article(f"{shape.colour} {shape.name}")),))
    return Sample(messages=(user, answer), skill="what is in a box")


def _find_word(rng: random.Random, split: Split, level: float) -> Sample:
    sheet = Sheet(rng, split, (rng.randint(5, 8), rng.randint(4, 7)))
    chosen = rng.sample([word for word in words(split, 7) if len(word) > 2], 2 + rng.randint(0, round(4 * level)))
    pitch = (sheet.height - 16) / len(chosen)
    size = min(20.0, pitch * rng.uniform(0.55, 0.75))
    boxes = []
    for row, word in enumerate(chosen):
        x = rng.uniform(8, max(9.0, sheet.width - 10 - sheet.measure(word, size)))
        boxes.append(sheet.text((x, 8 + row * pitch), word, size, room=sheet.width - 16))
    index = rng.randrange(len(chosen))
    box = thousandths(boxes[index], (sheet.width, sheet.height))
    question = phrase(rng, "box word", split, name=chosen[index])
    return about(sheet.finish(tilt=0), question, (Ref(chosen[index]), box), "box of a word", "iou")


_Task = Callable[[random.Random, Split, float], Sample]
_TASKS: dict[_Task, int] = {_find: 40, _find_all: 15, _find_none: 7, _name_inside: 18, _find_word: 20}
