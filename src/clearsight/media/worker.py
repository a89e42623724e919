"""What a sandbox starts: `python -m clearsight.media.worker MEMORY PIXELS`, free of torch and of other rooms."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterator
from typing import IO, Any

from PIL import Image

from clearsight.media import wire
from clearsight.media.animation import animation_frames, animation_header
from clearsight.media.film import film_frames, film_header
from clearsight.media.limits import MediaError, MediaLimits
from clearsight.media.picture import is_animation, open_picture
from clearsight.media.rgb import resize
from clearsight.media.wire import FilmHeader

Answer = tuple[dict[str, Any], bytes]


def _picture(body: bytes, limits: MediaLimits) -> Iterator[Answer]:
    image = open_picture(body, limits).decode()
    yield {"size": image.size}, image.tobytes()


def _header(file: IO[bytes]) -> Iterator[Answer]:
    read = animation_header if is_animation(_head(file)) else film_header
    yield {"header": read(file)}, b""


def _frames(file: IO[bytes], job: dict[str, Any]) -> Iterator[Answer]:
    read = animation_frames if is_animation(_head(file)) else film_frames
    size = None if job["size"] is None else tuple(job["size"])
    last: tuple[Image.Image, Answer] | None = None
    for image in read(file, FilmHeader(*job["header"]), job["times"]):
        if last is None or last[0] is not image:
            fitting = image if size is None else resize(image, size)
            last = image, ({"size": fitting.size}, fitting.tobytes())
        yield last[1]


def _head(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(16)


def _answers(job: dict[str, Any], body: bytes, file: int | None, limits: MediaLimits) -> Iterator[Answer]:
    """What a job yields; a refusal is its last answer."""
    try:
        if job["job"] == "picture":
            yield from _picture(body, limits)
            return
        assert file is not None
        with open(file, "rb") as opened:
            yield from _header(opened) if job["job"] == "header" else _frames(opened, job)
    except MediaError as error:
        yield {"refusal": str(error)}, b""
    except MemoryError:
        yield {"refusal": "video: it cannot be decoded within the memory allowed"}, b""


def _main() -> None:
    memory, pixels = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    limits = MediaLimits(max_pixels=pixels, max_file_bytes=2**62, allow_files=False, allow_remote=False)
    channel = socket.socket(fileno=0)
    while True:
        try:
            job, body, file = wire.receive(channel)
        except EOFError:
            return
        for answer in _answers(job, bytes(body), file, limits):
            wire.send(channel, *answer)


if __name__ == "__main__":
    _main()
