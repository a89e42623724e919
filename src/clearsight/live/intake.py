"""Frames on their way in: sampled, paired, bounded. What is not looked at is counted by reason."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL.Image import Image as PillowImage

from clearsight.live.settings import LiveSettings


@dataclass(frozen=True, slots=True)
class IntakeStats:
    """Frames since the start. taken: to be looked at. skipped: above the frame rate. late: not newer than the last.

    dropped: taken, then given up for newer ones because the model was behind. pending: pairs that wait now.
    """

    taken: int = 0
    skipped: int = 0
    late: int = 0
    dropped: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two frames at their final size, and the time of the second in seconds."""

    frames: tuple[PillowImage, PillowImage]
    time: float


class Intake:
    """May be filled by one thread and emptied by another. Holds at most max_pending pairs and one frame."""

    def __init__(self, settings: LiveSettings, shrink: Callable[[Any], PillowImage]) -> None:
        """shrink: a frame as given to an RGB picture of its final size."""
        self._step = 1.0 / settings.frames_per_second
        self._most = settings.max_pending
        self._shrink = shrink
        self._pairs: deque[Pair] = deque()
        self._half: tuple[PillowImage, float] | None = None
        self._last = self._due = -math.inf
        self._counts = IntakeStats()
        self._lock = threading.Lock()

    def push(self, frame: Any, time: float) -> str:
        """Take a frame that was seen at `time` (seconds on any clock). Returns "taken", "skipped" or "late".

        Raises ValueError for a time that is none, and what `shrink` raises for a frame that is none.
        """
        if not math.isfinite(time):
            raise ValueError(f"a frame's time is {time}; it must be a finite number of seconds")
        with self._lock:
            if time <= self._last:
                return self._count("late")
            self._last = time
            # A frame that comes a little early is no reason to wait for the one after it.
            if time < self._due - 0.1 * self._step:
                return self._count("skipped")
            on_time = time - self._due < self._step
            self._due = (self._due if on_time else time) + self._step
        picture = self._shrink(frame)
        with self._lock:
            self._add(picture, time)
            return self._count("taken")

    def take(self, *, flush: bool = False) -> Pair | None:
        """The oldest pair. flush: failing that, a single waiting frame counts twice, as at the end of an odd clip."""
        with self._lock:
            if self._pairs:
                return self._pairs.popleft()
            if not flush or self._half is None:
                return None
            (picture, time), self._half = self._half, None
            return Pair((picture, picture), time)

    @property
    def pending(self) -> int:
        return len(self._pairs)

    def stats(self) -> IntakeStats:
        with self._lock:
            return replace(self._counts, pending=len(self._pairs))

    def _add(self, picture: PillowImage, time: float) -> None:
        if self._half is None:
            self._half = picture, time
            return
        self._pairs.append(Pair((self._half[0], picture), time))
        self._half = None
        if len(self._pairs) > self._most:
            # The newest is worth more than the oldest, and what waits for ever would only grow older.
            self._pairs.popleft()
            self._counts = replace(self._counts, dropped=self._counts.dropped + 2)

    def _count(self, name: str) -> str:
        self._counts = replace(self._counts, **{name: getattr(self._counts, name) + 1})
        return name
