"""Any mode of decoded picture to 8-bit RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# Width and height trade places from orientation 5 on.
FIRST_SWAPPED = 5
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


def orient(image: Image.Image, orientation: int) -> Image.Image:
    """Turn and mirror stored pixels so that the picture stands upright; orientation is the EXIF value, 1 to 8."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An RGB picture at (height, width): PIL's bicubic, antialiased, on bytes (facts, 13.6)."""
    return image.resize(size[::-1], Image.Resampling.BICUBIC)


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB, 8 bits a channel; transparency is blended over white as the reference does (facts, 3.1 and 13.7).

    The picture itself is returned when it already is plain RGB, and never changed. At most 16 bytes a pixel are held
    at once, for a picture with transparency.
    """
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_grey(image).convert("RGB")
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, scaled to 8; a colour key (PNG tRNS) becomes white like all transparency."""
    levels = np.asarray(image)
    grey = _eight_bits_of_float(levels) if image.mode == "F" else _eight_bits_of_16(levels)
    key = image.info.get("transparency")
    return Image.fromarray(grey if key is None else np.where(levels == key, np.uint8(255), grey))


def _eight_bits_of_16(levels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Modes I;16 and I hold 0..65535; 65535 / 255 = 257, rounded to nearest."""
    wide: npt.NDArray[np.uint32] = np.clip(levels, 0, 65_535).astype(np.uint32)
    return ((wide + 128) // 257).astype(np.uint8)


def _eight_bits_of_float(levels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Float grey has no fixed range: the smallest of the customary 1, 255 and 65535 that holds all values, or the
    largest value itself. Negative values and NaN are black."""
    levels = np.nan_to_num(levels, nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(levels.max())
    white = next((top for top in (1.0, 255.0, 65_535.0) if largest <= top), largest)
    scaled: npt.NDArray[np.float32] = np.clip(levels, 0, None) * (255.0 / white)
    return np.rint(scaled).astype(np.uint8)
