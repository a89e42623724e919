"""Frames of videos that were read lately, so that a second question about one does not decode it again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from clearsight.media import Clip

Progress = Callable[[str, int, int], None]
Frame = npt.NDArray[np.uint8]
Key = tuple[bytes, bytes, tuple[int, ...], tuple[int, int]]


class ClipReader:
    """Reads videos through a cache that is bounded in bytes; those not asked for longest go first.

    A video is known by the content of its file, so it may move or grow, together with what is wanted of it.
    """

    def __init__(self, limit_bytes: int = 256 * 2**20) -> None:
        self._limit = limit_bytes
        self._entries: OrderedDict[Key, list[Frame]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def __reduce__(self) -> tuple[type[ClipReader], tuple[int]]:
        """A copy in another process begins empty."""
        return ClipReader, (self._limit,)

    def frames(
        self, clip: Clip, indices: Sequence[int], size: tuple[int, int], salt: bytes, progress: Progress | None
    ) -> Iterator[Frame]:
        """The frames (H, W, 3) of these numbers at `size` (height, width), one after another. Raises MediaError."""
        total, (height, width) = len(indices), size
        digest = clip.digest() if total * height * width * 3 <= self._limit else None
        key = None if digest is None else (salt, digest, tuple(indices), size)
        known = self._get(key)
        if known is not None:
            yield from known
            return
        kept: list[Frame] = []
        for done, image in enumerate(clip.frames(indices, size), 1):
            frame = np.asarray(image)
            if key is not None:
                kept.append(frame)
            if progress is not None:
                progress(clip.header.name, done, total)
            # Before the last is handed out: few readers ask for one more to see the end.
            if key is not None and done == total:
                self._put(key, kept)
            yield frame

    def _get(self, key: Key | None) -> list[Frame] | None:
        with self._lock:
            found = None if key is None else self._entries.get(key)
            if key is not None and found is not None:
                self._entries.move_to_end(key)
            return found

    def _put(self, key: Key, frames: list[Frame]) -> None:
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = frames
            self.bytes += _bytes(frames)
            while self.bytes > self._limit:
                self.bytes -= _bytes(self._entries.popitem(last=False)[1])


def _bytes(frames: Sequence[Frame]) -> int:
    return sum(frame.nbytes for frame in frames)
