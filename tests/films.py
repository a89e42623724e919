"""Videos made by PyAV for the tests. Frame k is of one grey, (4 * k) % 256, with a red corner at the top left."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def grey(index: int) -> int:
    return 4 * index % 256


def frame(index: int, width: int, height: int) -> Pixels:
    pixels = np.full((height, width, 3), grey(index), np.uint8)
    pixels[: height // 4, : width // 4] = (255, 0, 0)
    return pixels


def film(
    kind: str = "mp4",
    frames: int = 60,
    size: tuple[int, int] = (96, 64),
    fps: int = 30,
    codec: str = "libx264",
    gop: int = 10,
    rotation: int = 0,
    stamps: Sequence[int] | None = None,
    faststart: bool = False,
) -> bytes:
    """An encoded video. stamps: of the frames, in thousandths of a second, for a rate that varies."""
    # To move its index to the front, the writer must be able to read what it wrote.
    with tempfile.NamedTemporaryFile(suffix=f".{kind}") as file:
        _write(file.name if faststart else file, kind, frames, size, fps, codec, gop, rotation, stamps, faststart)
        return Path(file.name).read_bytes()


def _write(
    file: Any,
    kind: str,
    frames: int,
    size: tuple[int, int],
    fps: int,
    codec: str,
    gop: int,
    rotation: int,
    stamps: Sequence[int] | None,
    faststart: bool,
) -> None:
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(file, "w", format=kind, options=options) as container:
        wishes: dict[str, Any] = {"x264-params": f"keyint={gop}:scenecut=0:bframes=2"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=fps, options=wishes)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(frame(index, *size), format="rgb24")
            if stamps is not None:
                picture.pts, picture.time_base = stamps[index], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    if not faststart:
        file.flush()


def sound() -> bytes:
    """A second of silence in an MP4 file."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(10):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16000
            container.mux(stream.encode(silence))
        container.mux(stream.encode())
    return file.getvalue()


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
