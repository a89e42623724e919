"""Colours, backgrounds and wear shared by the worlds that draw text."""

from __future__ import annotations

import random
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

RGB = tuple[int, int, int]

_MIN_CONTRAST = 120.0


def luminance(colour: RGB) -> float:
    """Perceived brightness, 0..255 (ITU-R BT.601)."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def ink_and_paper(rng: random.Random) -> tuple[RGB, RGB]:
    """Text and background colours of clearly different brightness: half of them dark on light."""
    if rng.random() < 0.5:
        return _any(rng, 0, 80), _any(rng, 215, 255)
    while True:
        ink, paper = _any(rng, 0, 255), _any(rng, 0, 255)
        if abs(luminance(ink) - luminance(paper)) >= _MIN_CONTRAST:
            return ink, paper


def plain_ink_and_paper(rng: random.Random) -> tuple[RGB, RGB]:
    """Nearly black on nearly white."""
    return (rng.randint(0, 40),) * 3, (rng.randint(225, 255),) * 3


def background(rng: random.Random, size: tuple[int, int], colour: RGB) -> Image.Image:
    """A plain sheet of `colour`, or, one time in four, one that slowly gets a little lighter or darker."""
    if rng.random() < 0.75:
        return Image.new("RGB", size, colour)
    step = rng.choice((-1, 1)) * rng.randint(8, 28)
    other = tuple(max(0, min(255, channel + step)) for channel in colour)
    ramp = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize(size)
    return Image.composite(Image.new("RGB", size, other), Image.new("RGB", size, colour), ramp)


def wear(rng: random.Random, picture: Image.Image) -> Image.Image:
    """Sometimes blurs, speckles or JPEG-compresses `picture` a little; half of the pictures stay clean."""
    kind = rng.random()
    if kind < 0.5:
        return picture
    if kind < 0.65:
        return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    if kind < 0.82:
        return _speckled(rng, picture)
    memory = BytesIO()
    picture.save(memory, "JPEG", quality=rng.randint(35, 90))
    return Image.open(memory).convert("RGB")


def _speckled(rng: random.Random, picture: Image.Image) -> Image.Image:
    pixels = np.asarray(picture, dtype=np.float32)
    generator = np.random.default_rng(rng.getrandbits(64))
    noise = generator.standard_normal(pixels.shape[:2], dtype=np.float32) * rng.uniform(3.0, 12.0)
    return Image.fromarray((pixels + noise[..., None]).clip(0, 255).astype(np.uint8))


def _any(rng: random.Random, low: int, high: int) -> RGB:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)
