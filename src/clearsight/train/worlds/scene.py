"""Scenes of coloured shapes: where they lie, without overlap, and how they are painted."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .ink import RGB, background, wear
from .marks import Mark, marked

COLOURS: dict[str, RGB] = {
    "red": (222, 32, 36),
    "green": (36, 160, 60),
    "blue": (38, 76, 222),
    "yellow": (250, 222, 40),
    "orange": (250, 132, 12),
    "purple": (132, 44, 172),
    "pink": (250, 130, 190),
    "brown": (116, 68, 30),
    "black": (16, 16, 16),
    "white": (252, 252, 252),
}
SHAPES = ("circle", "square", "triangle", "star", "diamond", "hexagon")

# Grey and pale sheets, none of which goes by the name of one of the colours when it lies behind it.
_PAPERS: tuple[RGB, ...] = (
    (252, 252, 252),
    (252, 252, 252),
    (235, 235, 230),
    (200, 200, 200),
    (150, 150, 150),
    (90, 92, 96),
    (16, 16, 16),
    (215, 228, 240),
    (240, 232, 215),
    (222, 238, 222),
    (40, 52, 72),
)
_MIN_DISTANCE = 105.0
_GAP = 3.0
_MIN_RADIUS = 9.0
_SUPERSAMPLE = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """One drawn shape: its name, colour name, centre and the radius of the circle it fits in, in pixels."""

    name: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A sheet of `width` x `height` pixels with shapes that do not overlap."""

    width: int
    height: int
    paper: RGB
    shapes: tuple[Shape, ...]


def plural(shape: str) -> str:
    return f"{shape}s"


def with_article(noun: str) -> str:
    """`noun` after "a" or "an"."""
    return f"{article(noun)} {noun}"


def article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def pick_paper(rng: random.Random, colour: str | None = None) -> RGB:
    """A background on which `colour`, if given, is clearly seen."""
    return rng.choice([paper for paper in _PAPERS if colour is None or _stands_out(COLOURS[colour], paper)])


def colours_on(paper: RGB) -> list[str]:
    """The colours that are clearly seen on `paper`."""
    return [name for name, colour in COLOURS.items() if _stands_out(colour, paper)]


def place(
    rng: random.Random, size: tuple[int, int], kinds: list[tuple[str, str]], largest: float = 0.24
) -> tuple[Shape, ...]:
    """Shapes of `kinds` (shape, colour) at random places on a sheet of `size`, no two of them touching.

    The largest radius is `largest` of the shorter side and shrinks with the number of shapes.
    """
    limit = max(_MIN_RADIUS + 1.5, min(largest * min(size), 0.40 * math.sqrt(size[0] * size[1] / max(1, len(kinds)))))
    while True:
        placed: list[Shape] = []
        for name, colour in kinds:
            shape = _free_place(rng, size, placed, name, colour, limit)
            if shape is None:
                break
            placed.append(shape)
        else:
            return tuple(placed)
        limit = max(_MIN_RADIUS, limit * 0.9)


def paint(rng: random.Random, scene: Scene) -> Image.Image:
    """The RGB picture of `scene`; hues vary a little and outlines are slightly turned."""
    scale = _SUPERSAMPLE
    sheet = background(rng, (scene.width * scale, scene.height * scale), scene.paper)
    pen = ImageDraw.Draw(sheet)
    for shape in scene.shapes:
        fill = _jitter(rng, COLOURS[shape.colour])
        x, y, radius = shape.x * scale, shape.y * scale, shape.radius * scale
        if shape.name == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        else:
            pen.polygon(_outline(rng, shape.name, x, y, radius), fill=fill)
    return sheet.reduce(scale)


def photograph(rng: random.Random, scene: Scene) -> Image.Image:
    """`paint`, perhaps worn, with a mark for every shape."""
    return worn(rng, scene, paint(rng, scene))


def worn(rng: random.Random, scene: Scene, picture: Image.Image) -> Image.Image:
    """The painted `picture` of `scene`, perhaps worn, with a mark for every shape."""
    marks = [Mark((s.name, s.colour), s.x, s.y, 0.8 * s.radius, 0.8 * s.radius) for s in scene.shapes]
    return marked(wear(rng, picture), marks)


def _free_place(
    rng: random.Random, size: tuple[int, int], placed: list[Shape], name: str, colour: str, limit: float
) -> Shape | None:
    for _ in range(30):
        radius = rng.uniform(max(_MIN_RADIUS, 0.55 * limit), limit)
        edge = radius + 2
        x, y = rng.uniform(edge, size[0] - edge), rng.uniform(edge, size[1] - edge)
        if all(math.hypot(x - other.x, y - other.y) >= radius + other.radius + _GAP for other in placed):
            return Shape(name, colour, x, y, radius)
    return None


# Corners as (turn in degrees, radius) on the unit circle; 0 degrees points up.
_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": tuple((45 + 90 * i, 1.0) for i in range(4)),
    "triangle": tuple((120 * i, 1.0) for i in range(3)),
    "star": tuple((36 * i, 0.42 if i % 2 else 1.0) for i in range(10)),
    "diamond": ((0, 1.0), (90, 0.68), (180, 1.0), (270, 0.68)),
    "hexagon": tuple((60 * i, 1.0) for i in range(6)),
}


def _outline(rng: random.Random, name: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    turn = rng.uniform(-8, 8)
    corners = ((math.radians(angle + turn), radius * reach) for angle, reach in _CORNERS[name])
    return [(x + reach * math.sin(angle), y - reach * math.cos(angle)) for angle, reach in corners]


def _jitter(rng: random.Random, colour: RGB) -> RGB:
    light = rng.uniform(0.9, 1.1)
    red, green, blue = (max(0, min(255, round(channel * light) + rng.randint(-7, 7))) for channel in colour)
    return red, green, blue


def _stands_out(colour: RGB, paper: RGB) -> bool:
    return math.dist(colour, paper) >= _MIN_DISTANCE
