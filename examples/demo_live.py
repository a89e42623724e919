"""Watch a clip as it plays, with nano: questions come at their time, and a standing instruction speaks of itself.

The clip is drawn here: a blue circle, a red square and a green triangle, eight seconds each, all on the move. It plays
at twice its speed. What is printed is what nano says, right or wrong.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import av
from PIL import Image, ImageDraw

SIZE, RATE, SECONDS = (168, 168), 10, 8
SHAPES = (("circle", "blue"), ("square", "red"), ("triangle", "green"))
TYPED = """\
@4 What is this?
@6 What colour is the shape?
@12 What is this?
@14 How many shapes are there?
@20 What is this?
"""


def frame(index: int) -> Image.Image:
    """One frame of the clip."""
    shape, colour = SHAPES[index // (SECONDS * RATE)]
    step = index % (SECONDS * RATE)
    image = Image.new("RGB", SIZE, "white")
    pen, left, top = ImageDraw.Draw(image), 20 + step, 50 + step // 4
    if shape == "circle":
        pen.ellipse((left, top, left + 56, top + 56), fill=colour)
    elif shape == "square":
        pen.rectangle((left, top, left + 52, top + 52), fill=colour)
    else:
        pen.polygon(((left + 28, top), (left, top + 54), (left + 56, top + 54)), fill=colour)
    return image


def write(path: Path, codec: str = "mpeg4", pixels: str = "yuv420p") -> None:
    """The whole clip as a video file, of the kind that the path's ending names."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE, pixels, 2_000_000
        for index in range(len(SHAPES) * SECONDS * RATE):
            out.mux(stream.encode(av.VideoFrame.from_image(frame(index))))
        out.mux(stream.encode())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write(clip)
        options = ["--speed", "2", "--watch-change", "What is this?"]
        print(f"$ clearsight live clip.mp4 {shlex.join(options)}")
        print("".join(f"< {line}\n" for line in TYPED.splitlines()), flush=True)
        command = [sys.executable, "-m", "clearsight", "live", str(clip), *options]
        sys.exit(subprocess.run(command, input=TYPED, text=True, check=False).returncode)


if __name__ == "__main__":
    main()
