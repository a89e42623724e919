"""A video from any source: its header, then the frames that are wanted of it, read one after another."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from PIL import Image

from clearsight.media.limits import DEFAULT_LIMITS, MediaError, MediaLimits, check_size
from clearsight.media.picture import Picture, is_animation, open_picture
from clearsight.media.rgb import resize
from clearsight.media.sandbox import Sandbox
from clearsight.media.source import is_remote, local_path, open_at_once, open_source, shorten, under_root

NAMELESS = "video"
_PIECE = 2**20
_VIDEOS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".flv",
    ".wmv",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".ogv",
    ".h264",
)
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".avif")


class VideoHeader(NamedTuple):
    """What is known before frames are decoded. Sizes are upright pixels, duration is in seconds.

    fps, duration: None for pictures in a row, which do not say when they were taken. Of a variable frame rate fps is
    the average, so that frames = duration * fps.
    """

    name: str
    width: int
    height: int
    frames: int
    fps: float | None
    duration: float | None


class VideoFile:
    """An encoded video within all limits, decoded in a sandbox."""

    def __init__(self, source: Any, limits: MediaLimits, sandbox: Sandbox) -> None:
        limits = replace(limits, max_file_bytes=limits.max_video_bytes)
        name, self._file = open_source(source, limits, NAMELESS)
        self._close = weakref.finalize(self, self._file.close)
        self._sandbox = sandbox
        self._film = sandbox.film_header(name, self._file)
        self.header = VideoHeader(name, *self._film)
        check_size(self.header.width, self.header.height, name, limits)
        if self._film.duration > limits.max_video_seconds:
            limit = f"the limit is {limits.max_video_seconds:g} s"
            raise MediaError(f"{name}: it lasts {self._film.duration:.0f} s; {limit}")

    def frames(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[Image.Image]:
        """The RGB frames of these numbers (rising), resized to `size` (height, width) if given. Raises MediaError.

        Of a variable frame rate, number k is what is shown at k / fps.
        """
        times = [index / self._film.fps for index in indices]
        return self._sandbox.film_frames(self.header.name, self._file, self._film, times, size)

    def digest(self) -> bytes | None:
        """What names the video by its content."""
        return file_digest(self._file)


class PictureRow:
    """Pictures in order of time as a video; each is opened when its turn comes."""

    def __init__(self, name: str, sources: Sequence[Any], limits: MediaLimits, sandbox: Sandbox | None) -> None:
        if not sources:
            raise MediaError(f"{name}: it has no frames")
        self._sources = sources
        self._limits = limits
        self._decode = Picture.decode if sandbox is None else sandbox.decode
        self.header = VideoHeader(name, *self._open(0).header[1:], len(sources), None, None)

    def frames(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[Image.Image]:
        """The RGB pictures of these numbers, resized to `size` (height, width) if given. Raises MediaError."""
        for index in indices:
            picture = self._open(index)
            try:
                image = self._decode(picture)
            except MediaError as error:
                raise self._named(index, error) from error
            yield image if size is None else resize(image, size)

    def digest(self) -> bytes | None:
        """None: nothing short names all its pictures."""
        return None

    def _open(self, index: int) -> Picture:
        try:
            return open_picture(self._sources[index], self._limits)
        except MediaError as error:
            raise self._named(index, error) from error

    @staticmethod
    def _named(index: int, error: MediaError) -> MediaError:
        return MediaError(f"frame {index + 1}, {error}")


Clip = VideoFile | PictureRow


def open_video(
    source: Any, limits: MediaLimits = DEFAULT_LIMITS, sandbox: Sandbox | None = None, guard_pictures: bool = False
) -> Clip:
    """Open a video and check it against every limit; of a file at most the first frames are decoded.

    source: a video file or moving picture as a path, file:, data: or http(s): address or bytes; a folder of pictures,
    taken in the order of their names, numbers in them as numbers; or a sequence of picture sources.
    guard_pictures: decode pictures in a row in the sandbox too. Raises MediaError.
    """
    sandbox = sandbox or Sandbox(limits, workers=1)
    guard = sandbox if guard_pictures else None
    if isinstance(source, (list, tuple)):
        return PictureRow(NAMELESS, source, limits, guard)
    if (pictures := folder_pictures(source, limits)) is not None:
        # What lies in a folder that may be named may be read, whatever else may not.
        return PictureRow(_folder_name(str(local_path(source))), pictures, replace(limits, allow_files=True), guard)
    if not isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        raise MediaError(f"{NAMELESS}: it is a {type(source).__name__}; give a path, bytes or a list of pictures")
    return VideoFile(source, limits, sandbox)


def looks_like_video(source: str) -> bool:
    """Whether a path is that of a video, a moving picture or a folder; an address is judged by its name alone."""
    if is_remote(source):
        return urlsplit(source).path.lower().endswith(_VIDEOS)
    path = local_path(source)
    if path is None:
        return source.lower().startswith("data:video/")
    if os.path.isdir(path):
        return True
    try:
        with open(path, "rb", opener=open_at_once) as file:
            head = file.read(16)
        if is_animation(head):
            with Image.open(path) as image:
                return getattr(image, "n_frames", 1) > 1
    except Exception:  # What cannot be read is refused where it is used, with the reason.
        return False
    known = any(head[place : place + len(mark)] == mark for place, mark in _MARKS)
    return (known and head[8:12] not in _STILL_BRANDS) or path.lower().endswith(_VIDEOS)


# Beginnings of video files: ISO media and QuickTime, Matroska and WebM, AVI, Flash, Windows Media, MPEG, Ogg.
_MARKS = (
    (4, b"ftyp"),
    (4, b"moov"),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"\x30\x26\xb2\x75"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x00\x00\x01\xb3"),
    (0, b"OggS"),
)
_STILL_BRANDS = (b"avif", b"mif1", b"heic", b"heix")


def folder_pictures(source: Any, limits: MediaLimits) -> list[str] | None:
    """The pictures in a folder that may be read, in order; None for what is no such folder. Raises MediaError if it is
    empty."""
    path = local_path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is None:
        return None
    try:
        if not limits.allow_files:
            if limits.media_root is None or not os.path.isdir(os.path.join(limits.media_root, path)):
                return None
            path = under_root(path, shorten(os.path.basename(path)), limits, NAMELESS)
        elif not os.path.isdir(path):
            return None
        names = sorted(os.listdir(path), key=_natural)
    except (OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        return None
    real = os.path.realpath(path)
    files = [os.path.join(path, file) for file in names if file.lower().endswith(_PICTURES)]
    # A link may not lead out of the folder.
    files = [file for file in files if os.path.commonpath((real, os.path.realpath(file))) == real]
    if not files:
        raise MediaError(f"{_folder_name(path)}: there are no pictures in this folder")
    return files


def _folder_name(path: str) -> str:
    return shorten(os.path.basename(os.path.normpath(path)))


def _natural(name: str) -> tuple[Any, ...]:
    """frame 10 comes after frame 9."""
    return tuple(int(piece) if piece.isdigit() else piece.lower() for piece in re.split(r"(\d+)", name))


def file_digest(file: IO[bytes]) -> bytes:
    """256 bits of a file's content."""
    state = blake2b(digest_size=32)
    file.seek(0)
    while piece := file.read(_PIECE):
        state.update(piece)
    return state.digest()
