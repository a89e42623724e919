"""Where frames come from: a camera, the screen, a network stream, or a file played at its own pace, through PyAV."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import av
import av.error
import numpy.typing as npt
from av.container import InputContainer

_CAMERAS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")
_REGION = re.compile(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?")
_OPEN_SECONDS, _READ_SECONDS = 10.0, 30.0

Frame = tuple[float, Callable[[], "npt.NDArray[Any]"]]
"""Seconds since the start, and what makes the RGB array (H, W, 3) when it is wanted."""


class SourceError(ValueError):
    """A source cannot be opened or read; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to open. paced: its frames carry their own times and are handed out when those come."""

    name: str
    target: str
    format: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    paced: bool = False


def parse_source(text: str, display: str | None = None) -> Source:
    """camera[:DEVICE], screen[:WxH[+X+Y]], an address or a file. display: X's, for a screen. Raises SourceError."""
    kind, _, rest = text.partition(":")
    if kind == "camera":
        return _camera(text, rest)
    if kind == "screen":
        return _screen(text, rest, os.environ.get("DISPLAY", "") if display is None else display)
    if text.startswith(_STREAMS):
        options = (("rtsp_transport", "tcp"),) if text.startswith("rtsp") else ()
        return Source(text, text, options=options)
    if text.startswith("/dev/video"):
        return _camera(text, text)
    if not os.path.isfile(text):
        raise SourceError(f"{text}: it is no file, and none of camera, screen or an address such as rtsp://...")
    return Source(os.path.basename(text), text, paced=True)


def frames(source: Source, stop: threading.Event, speed: float = 1.0) -> Iterator[Frame]:
    """Frames as they come, until the source ends or `stop` is set. speed: of a file. Raises SourceError.

    A file that is decoded slower than it plays is handed out as fast as it can be; its times stay its own.
    """
    with closing(_open(source)) as container:
        begin = time.monotonic()
        try:
            for number, frame in enumerate(container.decode(video=0)):
                seconds = time.monotonic() - begin
                if source.paced:
                    # A file without times is taken for 25 frames a second.
                    due = number / 25 if frame.time is None else float(frame.time)
                    if stop.wait(max(0.0, due / speed - seconds)):
                        return
                    seconds = due
                if stop.is_set():
                    return
                yield seconds, lambda frame=frame: frame.to_ndarray(format="rgb24")  # type: ignore[misc]
        except av.error.FFmpegError as error:
            raise SourceError(f"{source.name}: reading it failed ({error.strerror})") from error


def _open(source: Source) -> InputContainer:
    try:
        timeout = None if source.format else (_OPEN_SECONDS, _READ_SECONDS)
        container = av.open(source.target, format=source.format, options=dict(source.options), timeout=timeout)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{source.name}: it cannot be opened ({reason})") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{source.name}: it holds no video")
    container.streams.video[0].thread_type = "AUTO"
    return container


def _camera(text: str, device: str) -> Source:
    name = _CAMERAS.get(sys.platform)
    default = {"v4l2": "/dev/video0", "avfoundation": "0", "dshow": "video=Integrated Camera"}.get(name or "", "")
    if name is None or not _has(name):
        raise SourceError(f"{text}: PyAV was built without cameras ({name or sys.platform})")
    target = device or default
    if name == "v4l2" and not os.path.exists(target):
        raise SourceError(f"{text}: there is no camera at {target}")
    return Source(text, target, name)


def _screen(text: str, region: str, display: str) -> Source:
    if not _has("x11grab"):
        raise SourceError(f"{text}: PyAV was built without x11grab, which reads the screen")
    if not display:
        raise SourceError(f"{text}: there is no X display to read (DISPLAY is not set)")
    found = _REGION.fullmatch(region) if region else None
    if region and found is None:
        raise SourceError(f"{text}: a region of the screen is written screen:WIDTHxHEIGHT+X+Y")
    width, height, x, y = found.groups() if found else (None, None, None, None)
    options = [("framerate", "10")]
    if width is not None:
        options += [("video_size", f"{width}x{height}"), ("grab_x", x or "0"), ("grab_y", y or "0")]
    return Source(text, display, "x11grab", tuple(options))


def _has(name: str) -> bool:
    return any(name in known.split(",") for known in av.format.formats_available)
