"""How many bytes of picture rows the requests under way keep, waiting ones included."""

from __future__ import annotations

import threading

from clearsight.engine.request import EngineFull, RequestTooLarge
from clearsight.inputs import VisionPatches


class PixelBudget:
    """Counts each tensor once, for several answers to one prompt share it. May be used from any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holders: dict[int, int] = {}
        self._lock = threading.Lock()
        self.bytes = 0

    def take(self, vision: VisionPatches | None) -> None:
        """Raises RequestTooLarge for pictures that can never fit, EngineFull for those that do not fit now."""
        if vision is None:
            return
        with self._lock:
            key, size = vision.pixels.data_ptr(), vision.pixels.nbytes
            if size > self._limit:
                raise RequestTooLarge(f"the pictures take {size} bytes as patches; the limit is {self._limit}")
            if key not in self._holders:
                if self.bytes + size > self._limit:
                    raise EngineFull(
                        f"the pictures take {size} bytes as patches, those of requests under way {self.bytes};"
                        f" the limit is {self._limit}"
                    )
                self._holders[key] = 0
                self.bytes += size
            self._holders[key] += 1

    def give_back(self, vision: VisionPatches | None) -> None:
        """One request has ended."""
        if vision is None:
            return
        with self._lock:
            key = vision.pixels.data_ptr()
            self._holders[key] -= 1
            if self._holders[key] == 0:
                del self._holders[key]
                self.bytes -= vision.pixels.nbytes
