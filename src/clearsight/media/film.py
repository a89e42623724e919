"""Encoded videos through FFmpeg: what a file is, then the frames at wanted times, never more than a few held.

Runs in a worker (sandbox.py). Decoding begins at key frames, so what lies between two wanted times is skipped by a seek
where a key frame stands in between, and frames that no other frame refers to are not decoded.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import IO, Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from clearsight.media.limits import MediaError
from clearsight.media.wire import FilmHeader

# Containers by content. What is not listed (playlists, devices, lists of other files above all) is never opened.
FORMATS = "mov,matroska,avi,flv,asf,mpegts,mpeg,ogg,mpegvideo,h264,hevc,ivf,mxf,obu,nut,dv"
_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "enable_drefs": "0"}

_BLIND_GAP = 12.0  # seconds; key frames usually stand closer together, where a file has no index that says so
_DECODED_BEFORE = (
    0.1  # seconds; an index may tell when a key frame is decoded, which is a few frames before it is shown
)
_STAMP_ERROR = 0.002  # seconds; times are rounded to the stream's own unit, often a millisecond
_SHORTFALL = 0.05  # share of the declared duration that may be missing at the end, as many writers round it up
_SHORTFALL_SECONDS = 1.0
_MOST_THREADS = 4


class _Film:
    """An opened container and its picture stream. Times are seconds from the first frame."""

    def __init__(self, container: InputContainer) -> None:
        if not set(container.format.name.split(",")) & set(FORMATS.split(",")):
            raise MediaError(f"video: files of kind {container.format.name} are not read")
        self.container = container
        self.stream = _picture_stream(container)
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = min(_MOST_THREADS, os.cpu_count() or 1)
        self.unit = self.stream.time_base or Fraction(1, 90_000)
        self.start = (self.stream.start_time or 0) * self.unit
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        # Only where every frame lasts equally long do packets tell what will be shown when.
        self.steady = self.stream.average_rate == self.stream.base_rate

    def frames(self, wanted: Sequence[float] = (), counted: int = 0) -> Iterator[tuple[float, VideoFrame]]:
        """(time, frame) in order of showing, from where the container stands.

        wanted: rising times, if only the frames shown at them matter. What a torn end leaves undecodable is left out.
        """
        for packet in self._packets():
            if wanted:
                self._skip_if_unseen(packet, wanted)
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in decoded:
                assert isinstance(frame, VideoFrame)
                yield self._time(frame, counted), frame
                counted += 1

    def seek(self, time: float) -> None:
        """To the key frame at or before `time`."""
        self.container.seek(round((Fraction(time) + self.start) / self.unit), backward=True, stream=self.stream)

    def key_times(self) -> list[float]:
        """When the key frames are shown, as far as the file has an index."""
        entries = self.stream.index_entries
        found = [float(entry.timestamp * self.unit - self.start) for entry in entries if entry.is_keyframe]
        return sorted(found)

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self.container.demux(self.stream)
        except (av.error.InvalidDataError, av.error.EOFError):
            return

    def _skip_if_unseen(self, packet: Any, wanted: Sequence[float]) -> None:
        """Let the decoder drop a frame that is not wanted, if no other frame is made from it."""
        if not self.steady or packet.pts is None or not packet.duration:
            return
        begin = float(packet.pts * self.unit - self.start)
        end = begin + float(packet.duration * self.unit)
        place = bisect_right(wanted, begin - 2 * _STAMP_ERROR)
        seen = place < len(wanted) and wanted[place] < end + 2 * _STAMP_ERROR
        self.stream.codec_context.skip_frame = "DEFAULT" if seen else "NONREF"

    def _time(self, frame: VideoFrame, counted: int) -> float:
        """Bare streams carry no times; their frames are counted."""
        return float(counted / self.rate) if frame.pts is None else float(frame.pts * self.unit - self.start)


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[_Film]:
    file.seek(0)
    try:
        container = av.open(file, mode="r", options=_OPTIONS)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise MediaError(f"video: it is not a video that can be read ({error_text(error)})") from error
    try:
        yield _Film(container)
    except av.error.FFmpegError as error:
        raise MediaError(f"video: it is damaged ({error_text(error)})") from error
    finally:
        container.close()


def _picture_stream(container: InputContainer) -> VideoStream:
    """The first that is not the cover of a piece of music."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    kinds = sorted({stream.type for stream in container.streams} - {"video"})
    raise MediaError(f"video: it holds no moving picture, only {' and '.join(kinds) or 'nothing'}")


def film_header(file: IO[bytes]) -> FilmHeader:
    """At most the first frames are decoded, which alone tell the true size. Raises MediaError."""
    with _opened(file) as film:
        frame = next((frame for _, frame in film.frames()), None)
        if frame is None:
            raise MediaError("video: it has no frame that can be decoded")
        width, height = (frame.width, frame.height) if frame.rotation % 180 == 0 else (frame.height, frame.width)
        duration, frames, fps = _declared_duration(film), film.stream.frames, float(film.rate)
    if duration is None:
        frames, duration = _measured(file, fps)
    return FilmHeader(width, height, frames or max(1, round(duration * fps)), fps, duration)


def _declared_duration(film: _Film) -> float | None:
    """Seconds of the picture stream by its own header, or of the container, or unknown."""
    if film.stream.duration:
        return float(film.stream.duration * film.unit)
    return film.container.duration / av.time_base if film.container.duration else None


def _measured(file: IO[bytes], fps: float) -> tuple[int, float]:
    """Frames and seconds of a file whose header does not tell: its packets are counted, none is decoded."""
    count, end = 0, Fraction(0)
    with _opened(file) as film:
        for packet in film._packets():
            if packet.size:
                count += 1
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * film.unit - film.start)
    return count, float(end) or count / fps


def film_frames(file: IO[bytes], header: FilmHeader, times: Sequence[float]) -> Iterator[Image.Image]:
    """The upright RGB frame shown at each of `times` (rising), one after another.

    Raises MediaError if the data is damaged or ends long before its header says.
    """
    with _opened(file) as film:
        keys = film.key_times()
        frames = film.frames(times)
        shown: tuple[float, VideoFrame] | None = None
        coming = next(frames, None)
        for time in times:
            until = time + min(_STAMP_ERROR, 0.5 / header.fps)
            if coming is not None and _worth_seeking(keys, coming[0], until):
                frames, landed = _landed(film, until, times)
                # Some files seek badly: where it leads past the frame, or gains nothing, it was the last time.
                if landed is None or landed[0] > until:
                    frames, landed = _again(film, times)
                    keys = [0.0]
                elif landed[0] <= coming[0]:
                    keys = [0.0]
                shown, coming = None, landed
            while coming is not None and (shown is None or coming[0] <= until):
                shown, coming = coming, next(frames, None)
            if shown is None:
                raise MediaError("video: it has no frame that can be decoded")
            if coming is None:
                _check_end(header, time, shown)
            yield _upright(shown[1])


def _worth_seeking(keys: Sequence[float], reached: float, until: float) -> bool:
    """Whether a key frame stands between what is `reached` and the frame shown at `until`."""
    if not keys:
        return until - reached > _BLIND_GAP
    place = bisect_right(keys, until - _DECODED_BEFORE)
    return place > 0 and keys[place - 1] > reached + _DECODED_BEFORE


Landed = tuple[Iterator[tuple[float, VideoFrame]], "tuple[float, VideoFrame] | None"]


def _landed(film: _Film, until: float, times: Sequence[float]) -> Landed:
    """Frames from the last key frame on that is shown by `until`, and the first of them.

    Some files are sought by when a frame is decoded, which is before it is shown: then one step further back is right.
    """
    frames: Iterator[tuple[float, VideoFrame]] = iter(())
    for back in (0.0, 1.0):
        try:
            film.seek(max(0.0, until - back))
        except av.error.FFmpegError:
            return iter(()), None
        frames = film.frames(times)
        first = next(frames, None)
        if first is None or first[0] <= until:
            return frames, first
    return frames, first


def _again(film: _Film, times: Sequence[float]) -> Landed:
    """From the beginning, for files in which seeking fails."""
    film.container.seek(0)
    frames = film.frames(times)
    return frames, next(frames, None)


def _check_end(header: FilmHeader, time: float, shown: tuple[float, VideoFrame]) -> None:
    start, frame = shown
    length = float((frame.duration or 0) * (frame.time_base or 0))
    if time - max(start + length, start) > max(_SHORTFALL_SECONDS, _SHORTFALL * header.duration):
        raise MediaError(
            f"video: its frames end after {start + length:.1f} s, but its header declares {header.duration:.1f} s"
        )


def _upright(frame: VideoFrame) -> Image.Image:
    image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    return image.rotate(frame.rotation, expand=True) if frame.rotation % 360 else image


def error_text(error: Exception) -> str:
    """What FFmpeg says, without the name it was given."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
