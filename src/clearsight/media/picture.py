"""A picture from any source: its size without decoding, then its pixels."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from clearsight.media.limits import DEFAULT_LIMITS, MediaError, MediaLimits, check_size
from clearsight.media.rgb import FIRST_SWAPPED, orient, to_rgb
from clearsight.media.source import NAMELESS, read_source, shorten

# The formats tried, by content and never by file name. An MPO is read as the JPEG it starts with.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
_CHANNEL_COUNTS = (1, 3, 4)


def is_animation(head: bytes) -> bool:
    """Whether the first 16 bytes are those of a picture format whose pictures may move."""
    return head[:4] in (b"GIF8", b"\x89PNG") or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


class Header(NamedTuple):
    """What is known before decoding: the name messages use, and the upright size in pixels."""

    name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Picture:
    """An opened picture within all limits, its pixels not yet decoded when it comes from encoded bytes.

    encoded: those bytes, None for pixels that were decoded elsewhere.
    """

    header: Header
    _image: Image.Image
    _orientation: int
    encoded: bytes | None = None

    def decode(self) -> Image.Image:
        """The upright picture, mode RGB, of exactly the header's size. Raises MediaError when the data is damaged."""
        name, width, height = self.header
        try:
            image = orient(to_rgb(self._image), self._orientation)
        except Exception as error:  # A decoder fed hostile bytes may raise anything.
            raise MediaError(f"{name}: it cannot be decoded ({_reason(error)})") from error
        if image.size != (width, height):
            raise MediaError(
                f"{name}: its header declares {width} x {height} pixels, its data {image.width} x {image.height}"
            )
        return image


def open_picture(source: Any, limits: MediaLimits = DEFAULT_LIMITS) -> Picture:
    """Open a picture and check it against every limit, decoding nothing.

    source: a path, file: or data: address, encoded bytes, PIL image, or uint8 array of shape (H, W), (H, W, 1),
    (H, W, 3) or (H, W, 4). Of an animation the first frame counts. EXIF orientation is applied. Raises MediaError.
    """
    if isinstance(source, Image.Image):
        name, image, orientation, data = NAMELESS, source, _orientation(source), None
    elif isinstance(source, np.ndarray):
        name, image, orientation, data = NAMELESS, _from_array(source, limits), 1, None
    elif isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        name, data = read_source(source, limits)
        image = _identify(name, data)
        orientation = _file_orientation(image, data)
    else:
        raise MediaError(
            f"{NAMELESS}: it is a {type(source).__name__}; give a path, bytes, a PIL image or a uint8 array"
        )
    width, height = image.size if orientation < FIRST_SWAPPED else image.size[::-1]
    check_size(width, height, name, limits)
    return Picture(Header(name, width, height), image, orientation, data)


def read_header(source: Any, limits: MediaLimits = DEFAULT_LIMITS) -> Header:
    """Name and upright size of a picture from its header alone (sources as for `open_picture`). Raises MediaError."""
    return open_picture(source, limits).header


def load(source: Any, limits: MediaLimits = DEFAULT_LIMITS) -> Image.Image:
    """The upright RGB picture of a source (as for `open_picture`). Raises MediaError."""
    return open_picture(source, limits).decode()


def _from_array(array: npt.NDArray[Any], limits: MediaLimits) -> Image.Image:
    if array.dtype != np.uint8:
        raise MediaError(f"{NAMELESS}: its array is {array.dtype}; uint8 is needed")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNEL_COUNTS):
        raise MediaError(f"{NAMELESS}: its array has shape {array.shape}; (H, W) or (H, W, 1, 3 or 4) is needed")
    check_size(array.shape[1], array.shape[0], NAMELESS, limits)
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def _identify(name: str, data: bytes) -> Image.Image:
    """Open encoded bytes with the format their content shows.

    `Image.open` is left aside because its size check warns, and depends on a number any part of the program may change.
    """
    Image.init()
    failure: Exception | None = None
    for kind in FORMATS:
        # PIL may have been built without this one.
        if kind not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[kind]
        try:
            if accept is None or accept(data[:16]) is True:
                return factory(BytesIO(data), "")
        except Image.DecompressionBombError as error:
            # WebP alone allocates on opening, so PIL refuses by its own number before ours can be asked.
            raise MediaError(f"{name}: it is too large ({error})") from error
        except Exception as error:
            failure = error
    if failure is None:
        raise MediaError(f"{name}: its content is not a picture of a supported kind ({', '.join(FORMATS)})")
    raise MediaError(f"{name}: it is damaged ({_reason(failure)})") from failure


def _file_orientation(image: Image.Image, data: bytes) -> int:
    """The EXIF orientation of encoded bytes, read without decoding them."""
    if image.format == "PNG" and "exif" not in image.info and (exif := _png_exif(data)) is not None:
        image.info["exif"] = exif
    return _orientation(image)


def _orientation(image: Image.Image) -> int:
    """The turn still to be made, as an EXIF value from 1 to 8; anything unreadable counts as upright."""
    # PIL itself turns a TIFF, already in its declared size.
    if isinstance(image, TiffImageFile):
        return 1
    try:
        # Not the PNG class's own method, which decodes all pixels to look behind them.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_exif(data: bytes) -> bytes | None:
    """The eXIf chunk of a PNG wherever it stands; some writers put it behind the pixels."""
    offset = 8
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        if kind == b"eXIf":
            return data[offset + 8 : offset + 8 + length]
        offset += length + 12
    return None


def _reason(error: Exception) -> str:
    return shorten(str(error) or type(error).__name__)
