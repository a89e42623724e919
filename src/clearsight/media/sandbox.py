"""Decoding in processes of their own, with limits of time and memory: what a hostile picture can break is one of them.

A worker is `python -m clearsight.media.sandbox`; it imports neither torch nor the rest of the package.
"""

from __future__ import annotations

import contextlib
import queue
import resource
import struct
import subprocess
import sys
import threading
from typing import IO

from PIL import Image

from clearsight.media.limits import MediaError, MediaLimits
from clearsight.media.picture import Picture, open_picture

_HEAD = struct.Struct("<BQQQ")  # 1 for a picture, 0 for a refusal; width, height; bytes that follow
_JOB = struct.Struct("<Q")
_OVERHEAD = 512 * 2**20  # an interpreter, its libraries and the codecs' own tables


class Sandbox:
    """A pool of decoding workers. `decode` stands in for `Picture.decode` and may be called from several threads."""

    def __init__(self, limits: MediaLimits, workers: int = 2, seconds: float = 20.0) -> None:
        self._limits = limits
        self._seconds = seconds
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)  # started at first use
        self._workers = workers

    def decode(self, picture: Picture) -> Image.Image:
        """The upright RGB picture, of exactly the header's size. Raises MediaError, also if it takes too long."""
        if picture.encoded is None:
            return picture.decode()
        worker = self._idle.get()
        try:
            if worker is None or worker.poll() is not None:
                self._stop(worker)
                worker = self._start()
            kind, width, height, data = self._ask(worker, picture)
        except BaseException:
            self._stop(worker)
            worker = None
            raise
        finally:
            self._idle.put(worker)
        if not kind:
            raise MediaError(_renamed(data.decode("utf-8", "replace"), picture.header.name))
        return Image.frombytes("RGB", (width, height), data)

    def close(self) -> None:
        """End all workers."""
        for _ in range(self._workers):
            self._stop(self._idle.get())
        for _ in range(self._workers):
            self._idle.put(None)

    def _start(self) -> subprocess.Popen[bytes]:
        memory = _OVERHEAD + 12 * self._limits.max_pixels + 2 * self._limits.max_file_bytes
        command = [sys.executable, "-m", "clearsight.media.sandbox", str(memory), str(self._limits.max_pixels)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _ask(self, worker: subprocess.Popen[bytes], picture: Picture) -> tuple[int, int, int, bytes]:
        assert picture.encoded is not None
        assert worker.stdin is not None
        assert worker.stdout is not None
        name = picture.header.name
        late = threading.Event()

        def kill() -> None:
            late.set()
            worker.kill()

        timer = threading.Timer(self._seconds, kill)
        timer.start()
        try:
            worker.stdin.write(_JOB.pack(len(picture.encoded)))
            worker.stdin.write(picture.encoded)
            worker.stdin.flush()
            kind, width, height, size = _HEAD.unpack(_exactly(worker.stdout, _HEAD.size))
            return kind, width, height, _exactly(worker.stdout, size)
        except (OSError, EOFError):
            if late.is_set():
                raise MediaError(f"{name}: decoding took longer than the limit of {self._seconds:g} seconds") from None
            raise MediaError(f"{name}: it cannot be decoded within the memory allowed") from None
        finally:
            timer.cancel()

    @staticmethod
    def _stop(worker: subprocess.Popen[bytes] | None) -> None:
        if worker is not None:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _renamed(text: str, name: str) -> str:
    """The worker knows no names; what it says begins with a stand-in."""
    return f"{name}:{text.partition(':')[2]}"


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _serve(jobs: IO[bytes], results: IO[bytes], limits: MediaLimits) -> None:
    """Answer until the pipe is closed."""
    while head := jobs.read(_JOB.size):
        data = _exactly(jobs, _JOB.unpack(head)[0])
        try:
            image = open_picture(data, limits).decode()
            kind, size, body = 1, image.size, image.tobytes()
        except MediaError as error:
            kind, size, body = 0, (0, 0), str(error).encode()
        results.write(_HEAD.pack(kind, *size, len(body)))
        results.write(body)
        results.flush()


def _main() -> None:
    memory, pixels = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    limits = MediaLimits(max_pixels=pixels, max_file_bytes=2**62, allow_files=False, allow_remote=False)
    _serve(sys.stdin.buffer, sys.stdout.buffer, limits)


if __name__ == "__main__":
    _main()
