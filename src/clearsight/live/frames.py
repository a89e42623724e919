"""Frames of one stream, all brought to the size that its first one decides."""

from __future__ import annotations

import threading
from typing import Any

from PIL import Image

from clearsight.inputs import Grid, VisionPatches
from clearsight.live.settings import LiveSettings
from clearsight.media import MediaError, open_picture
from clearsight.messages import Limits
from clearsight.processor import Processor
from clearsight.processor.image import target_size
from clearsight.processor.patches import pair_patches


class FrameSize:
    """May be used by several threads. size: (height, width) of every frame of the session, None before the first."""

    def __init__(self, processor: Processor, settings: LiveSettings) -> None:
        self._processor = processor
        self._most = settings.slot_tokens
        self._lock = threading.Lock()
        self.size: tuple[int, int] | None = None
        self.source_size: tuple[int, int] | None = None

    def shrink(self, frame: Any) -> Image.Image:
        """A frame at the session's size: an RGB array (H, W, 3) uint8, PIL picture, bytes of a picture file, or what
        makes one of these when called. One of another shape than the first is stretched. Raises MediaError.
        """
        frame = frame() if callable(frame) else frame
        picture = self._processor.decode(open_picture(frame, self._processor.media_limits))
        with self._lock:
            if self.size is None:
                self.size = self._choose(picture.height, picture.width)
                self.source_size = picture.size
        return picture.resize(self.size[::-1], Image.Resampling.BICUBIC)

    def patches(self, first: Image.Image, second: Image.Image) -> VisionPatches:
        """One temporal slot of two frames of the session's size."""
        assert self.size is not None
        return pair_patches((first, second), self.size, self._processor.image_settings)

    def _choose(self, height: int, width: int) -> tuple[int, int]:
        settings = self._processor.image_settings
        limits = Limits(max_pixels=self._most * settings.factor**2)
        size = target_size(height, width, limits, settings)
        grid = Grid(1, size[0] // settings.patch_size, size[1] // settings.patch_size)
        tokens = grid.tokens(settings.merge_size)
        if tokens > self._most:
            raise MediaError(f"frames of {width} x {height} pixels take {tokens} tokens; the limit is {self._most}")
        return size
