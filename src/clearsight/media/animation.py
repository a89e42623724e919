"""Moving GIF, WebP and PNG pictures as videos. Runs in a worker (sandbox.py)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import IO

from PIL import Image, ImageSequence

from clearsight.media.film import error_text
from clearsight.media.limits import MediaError
from clearsight.media.rgb import to_rgb
from clearsight.media.wire import FilmHeader

_FORMATS = ("GIF", "WEBP", "PNG")
_UNSAID = 0.1  # seconds; so long browsers show a frame that does not say how long


def animation_header(file: IO[bytes]) -> FilmHeader:
    """Every frame is visited, as only all of them tell how long it lasts. Raises MediaError."""
    image = _open(file)
    count, duration = 0, 0.0
    for frame in _frames(image):
        count += 1
        duration += _seconds(frame)
    return FilmHeader(image.width, image.height, count, count / duration, duration)


def animation_frames(file: IO[bytes], header: FilmHeader, times: Sequence[float]) -> Iterator[Image.Image]:
    """The RGB frame shown at each of `times` (rising); the frames before it are drawn on the way. Raises MediaError."""
    ends = list(accumulate(_seconds(frame) for frame in _frames(_open(file))))
    shown = enumerate(_frames(_open(file)))
    index, frame = next(shown)
    for time in times:
        wanted = min(bisect_right(ends, time + 1e-6), len(ends) - 1)
        while index < wanted:
            index, frame = next(shown)
        yield to_rgb(frame.copy())


def _open(file: IO[bytes]) -> Image.Image:
    file.seek(0)
    try:
        return Image.open(file, formats=_FORMATS)
    except Exception as error:  # A decoder fed hostile bytes may raise anything.
        raise MediaError(f"video: it is damaged ({error_text(error)})") from error


def _frames(image: Image.Image) -> Iterator[Image.Image]:
    try:
        for frame in ImageSequence.Iterator(image):
            frame.load()  # of a WebP this alone tells how long the frame lasts
            yield frame
    except Exception as error:
        raise MediaError(f"video: it is damaged ({error_text(error)})") from error


def _seconds(frame: Image.Image) -> float:
    return (frame.info.get("duration") or 1000 * _UNSAID) / 1000
