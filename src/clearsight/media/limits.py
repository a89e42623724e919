"""What a picture or video may be, each limit one named setting, and the error that refuses it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields


class MediaError(ValueError):
    """A picture or video cannot be used; the text names it, the value found and the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """Checked before any pixel is decoded.

    max_file_bytes: of one encoded picture; max_video_bytes: of one video. max_pixels: declared width x height; the
    default takes a 12000 x 11000 photograph, about 400 MB of RGB. max_aspect_ratio: long side / short side (facts,
    3.2). max_frames: pictures of one video that are looked at (facts, 4.1). max_video_seconds: how long it may last.
    decode_seconds: the time that reading one may take. allow_files: whether texts and paths may name local files; an
    edge that takes text from strangers switches it off, leaving data: URLs. media_root: a folder whose files may be
    named all the same. allow_remote: the same for http and https addresses; fetch_seconds: the time one of them may
    take. public_only: only addresses of the open internet are connected to. allowed_hosts: only these are, whatever
    their addresses.
    """

    max_file_bytes: int = 64 * 2**20
    max_video_bytes: int = 4 * 2**30
    max_pixels: int = 2**27
    max_aspect_ratio: float = 200
    max_frames: int = 768
    max_video_seconds: float = 24 * 3600
    decode_seconds: float = 600
    allow_files: bool = True
    allow_remote: bool = True
    fetch_seconds: float = 30
    public_only: bool = False
    allowed_hosts: tuple[str, ...] | None = None
    media_root: str | None = None

    def __post_init__(self) -> None:
        if self.media_root is not None and not os.path.isdir(self.media_root):
            raise ValueError(f"media_root is {self.media_root!r}, which is no folder")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0:
                raise ValueError(f"{item.name} is {value}; it must be above 0")


DEFAULT_LIMITS = MediaLimits()


def check_bytes(count: int, name: str, limits: MediaLimits) -> None:
    """Refuse an encoded picture that is empty or too long; count in bytes."""
    if count == 0:
        raise MediaError(f"{name}: it is empty (0 bytes)")
    if count > limits.max_file_bytes:
        raise MediaError(f"{name}: it has {count} bytes; the limit is {limits.max_file_bytes}")


def check_size(width: int, height: int, name: str, limits: MediaLimits) -> None:
    """Refuse a declared size (in pixels) without area, with too much of it, or too thin."""
    if width <= 0 or height <= 0:
        raise MediaError(f"{name}: its size is {width} x {height} pixels; both sides must be at least 1")
    if width * height > limits.max_pixels:
        raise MediaError(
            f"{name}: {width} x {height} is {width * height} pixels; the limit is {limits.max_pixels} pixels"
        )
    ratio = max(width, height) / min(width, height)
    if ratio > limits.max_aspect_ratio:
        raise MediaError(
            f"{name}: {width} x {height} has an aspect ratio of {ratio:.1f}; the limit is {limits.max_aspect_ratio:g}"
        )
