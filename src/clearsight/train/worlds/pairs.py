"""The world "pairs": two or three pictures to compare."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from PIL import Image as Pillow

from clearsight.messages import Image, Message, Part, Text

from .questions import absent, phrase
from .sample import CELL, Sample, Split
from .scene import COLOURS, SHAPES, Scene, article, colours_on, photograph, pick_paper, place, plural, with_article
from .sheet import Sheet
from .tokens import words

Kind = tuple[str, str]  # shape, colour


def draw_pairs(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """Two or three pictures of 84 x 84 to 140 x 140; `level` 0..1 grows the number of shapes in each."""
    task = rng.choice((_more, _which_has, _same, _gone, _recoloured, _total, _which_says))
    return task(rng, split, level)


def _ask(pictures: list[Pillow.Image], question: str, answer: str, skill: str) -> Sample:
    parts: list[Part] = []
    for number, picture in enumerate(pictures, 1):
        parts += [Text(f"Picture {number}: "), Image(picture)]
    user = Message("user", (*parts, Text(question)))
    return Sample(messages=(user, Message("assistant", (Text(answer),))), skill=skill)


def _size(rng: random.Random) -> tuple[int, int]:
    return rng.randint(3, 5) * CELL, rng.randint(3, 5) * CELL


def _paint(rng: random.Random, kinds: list[Kind]) -> Pillow.Image:
    size = _size(rng)
    papers = [pick_paper(rng) for _ in range(12)]
    seen = [paper for paper in papers if {colour for _, colour in kinds} <= set(colours_on(paper))]
    paper = seen[0] if seen else (150, 150, 150)
    return photograph(rng, Scene(*size, paper, place(rng, size, kinds)))


def _random_kinds(rng: random.Random, number: int, but: Callable[[Kind], bool] = lambda kind: False) -> list[Kind]:
    colours = [name for name in COLOURS if name not in ("white", "black")]
    kinds: list[Kind] = []
    while len(kinds) < number:
        kind = rng.choice(SHAPES), rng.choice(colours)
        if not but(kind):
            kinds.append(kind)
    return kinds


def _more(rng: random.Random, split: Split, level: float) -> Sample:
    shape = rng.choice(SHAPES)
    counts = rng.sample(range(0, 3 + round(3 * level)), rng.choice((2, 2, 3)))
    pictures = []
    for count in counts:
        own = [(shape, kind[1]) for kind in _random_kinds(rng, count)]
        pictures.append(_paint(rng, own + _random_kinds(rng, rng.randint(0, 2), lambda kind: kind[0] == shape)))
    best = counts.index(max(counts)) + 1
    return _ask(pictures, phrase(rng, "more", split, names=plural(shape)), f"picture {best}", "compare counts")


def _which_has(rng: random.Random, split: Split, level: float) -> Sample:
    (wanted,) = _random_kinds(rng, 1)
    number = rng.choice((2, 2, 3))
    winner = rng.randrange(number)
    pictures = []
    for index in range(number):
        others = _random_kinds(rng, rng.randint(1, 1 + round(2 * level)), lambda kind: kind == wanted)
        pictures.append(_paint(rng, [wanted, *others[1:]] if index == winner else others))
    name = f"{wanted[1]} {wanted[0]}"
    return _ask(
        pictures, phrase(rng, "which has", split, name=name, a=article(name)), f"picture {winner + 1}", "which picture"
    )


def _scene(rng: random.Random, level: float) -> Scene:
    size = _size(rng)
    kinds = list(dict.fromkeys(_random_kinds(rng, 2 + rng.randint(0, round(2 * level)))))
    return Scene(*size, (235, 235, 230), place(rng, size, kinds))


def _changed(rng: random.Random, before: Scene, after: Scene) -> list[Pillow.Image]:
    return [photograph(rng, before), photograph(rng, after)]


def _same(rng: random.Random, split: Split, level: float) -> Sample:
    scene = _scene(rng, level)
    same = rng.random() < 0.5
    other = scene if same else rng.choice((_without, _recolour))(rng, scene)[0]
    answer = "yes" if same else "no"
    return _ask(_changed(rng, scene, other), phrase(rng, "same", split), answer, "same or not")


def _gone(rng: random.Random, split: Split, level: float) -> Sample:
    scene = _scene(rng, level)
    after, name = _without(rng, scene)
    return _ask(_changed(rng, scene, after), phrase(rng, "gone", split), with_article(name), "what changed")


def _recoloured(rng: random.Random, split: Split, level: float) -> Sample:
    scene = _scene(rng, level)
    # A shape that is there twice would not say which one.
    names = [shape.name for shape in scene.shapes]
    alone = tuple(shape for shape in scene.shapes if names.count(shape.name) == 1) or scene.shapes[:1]
    scene = replace(scene, shapes=alone)
    after, name = _recolour(rng, scene)
    return _ask(_changed(rng, scene, after), phrase(rng, "recoloured", split), f"the {name}", "what changed")


def _without(rng: random.Random, scene: Scene) -> tuple[Scene, str]:
    gone = rng.choice(scene.shapes)
    rest = tuple(shape for shape in scene.shapes if shape is not gone)
    return replace(scene, shapes=rest), f"{gone.colour} {gone.name}"


def _recolour(rng: random.Random, scene: Scene) -> tuple[Scene, str]:
    old = rng.choice(scene.shapes)
    used = {shape.colour for shape in scene.shapes}
    new = replace(old, colour=rng.choice([name for name in colours_on(scene.paper) if name not in used]))
    return replace(scene, shapes=tuple(new if shape is old else shape for shape in scene.shapes)), old.name


def _total(rng: random.Random, split: Split, level: float) -> Sample:
    shape = rng.choice(SHAPES)
    counts = [rng.randint(0, 1 + round(3 * level)) for _ in range(2)]
    pictures = []
    for count in counts:
        own = [(shape, kind[1]) for kind in _random_kinds(rng, count)]
        pictures.append(_paint(rng, own + _random_kinds(rng, rng.randint(0, 2), lambda kind: kind[0] == shape)))
    return _ask(pictures, phrase(rng, "total count", split, names=plural(shape)), str(sum(counts)), "count in all")


def _which_says(rng: random.Random, split: Split, level: float) -> Sample:
    chosen = rng.sample([word for word in words(split, 6) if len(word) > 2], 4)
    texts, asked = chosen[: rng.choice((2, 3))], rng.random()
    pictures = []
    for text in texts:
        sheet = Sheet(rng, split, (rng.randint(3, 5), 2))
        sheet.text((sheet.width / 2, sheet.height / 2), text, 22, anchor="mm", room=sheet.width - 12)
        pictures.append(sheet.finish())
    if asked < 0.1:
        return _ask(pictures, phrase(rng, "which says", split, name=chosen[3]), absent(chosen[3]), "honesty")
    winner = rng.randrange(len(texts))
    question = phrase(rng, "which says", split, name=texts[winner])
    return _ask(pictures, question, f"picture {winner + 1}", "which picture")
