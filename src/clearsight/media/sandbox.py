"""Decoding in processes of their own, with limits of time and memory: what hostile data can break is one of them."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from PIL import Image

from clearsight.media import wire
from clearsight.media.limits import MediaError, MediaLimits
from clearsight.media.picture import Picture
from clearsight.media.wire import FilmHeader

_OVERHEAD = 1536 * 2**20  # an interpreter, its libraries, the codecs' own tables and a few frames at work


class _Worker:
    """One process and the socket to it."""

    def __init__(self, memory: int, pixels: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "clearsight.media.worker", str(memory), str(pixels)]
            self.process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self.channel = ours

    def stop(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()


Idle = queue.SimpleQueue["_Worker | None"]


class Sandbox:
    """A pool of workers, each started at first use. May be used from several threads.

    seconds: what one picture or the header of a video may take; a whole video has `limits.decode_seconds`.
    """

    def __init__(self, limits: MediaLimits, workers: int = 2, seconds: float = 20.0) -> None:
        self._limits = limits
        self._seconds = seconds
        self._workers = workers
        self._idle: Idle = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)
        self._finalizer = weakref.finalize(self, _stop_all, self._idle)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process has workers of its own."""
        return Sandbox, (self._limits, self._workers, self._seconds)

    def decode(self, picture: Picture) -> Image.Image:
        """The upright RGB picture, of exactly the header's size. Raises MediaError, also if it takes too long."""
        if picture.encoded is None:
            return picture.decode()
        with self._job(picture.header.name, self._seconds) as job:
            return job.image({"job": "picture"}, picture.encoded)

    def film_header(self, name: str, file: IO[bytes]) -> FilmHeader:
        """What an open video file is. Raises MediaError."""
        with self._job(name, self._seconds) as job:
            answer, _ = job.ask({"job": "header"}, b"", file.fileno())
            return FilmHeader(*answer["header"])

    def film_frames(
        self, name: str, file: IO[bytes], header: FilmHeader, times: Sequence[float], size: tuple[int, int] | None
    ) -> Iterator[Image.Image]:
        """The RGB frames shown at `times` (rising), resized to `size` (height, width) if given. Raises MediaError."""
        if not times:
            return
        wish = {"job": "frames", "header": header, "times": list(times), "size": size}
        with self._job(name, self._limits.decode_seconds) as job:
            image = job.image(wish, b"", file.fileno())
            for _ in times[1:]:
                yield image
                image = job.image(None)
        # The last comes when the worker is free again: few readers ask for one more to see the end.
        yield image

    def close(self) -> None:
        """End the workers that are idle; one that is asked again starts anew."""
        _stop_all(self._idle)
        for _ in range(self._workers):
            self._idle.put(None)

    @contextmanager
    def _job(self, name: str, seconds: float) -> Iterator[_Job]:
        """A worker for one job; it lives on unless the job was broken off."""
        worker, job = self._idle.get(), None
        try:
            if worker is None or worker.process.poll() is not None:
                if worker is not None:
                    worker.stop()
                memory = _OVERHEAD + 12 * self._limits.max_pixels + 2 * self._limits.max_file_bytes
                worker = _Worker(memory, self._limits.max_pixels)
            job = _Job(worker.channel, name, seconds)
            yield job
        except BaseException as error:
            if worker is not None and not (job is not None and job.refused and isinstance(error, MediaError)):
                worker.stop()
                worker = None
            raise
        finally:
            self._idle.put(worker)


class _Job:
    """One job's messages, with a limit on all the seconds spent waiting for them.

    What the reader does between two messages costs the job nothing. refused: it has ended with a refusal.
    """

    def __init__(self, channel: socket.socket, name: str, seconds: float) -> None:
        self._channel = channel
        self._name = name
        self._seconds = seconds
        self._left = seconds
        self.refused = False

    def image(self, job: dict[str, Any] | None, body: bytes = b"", file: int | None = None) -> Image.Image:
        answer, data = self.ask(job, body, file)
        return Image.frombytes("RGB", tuple(answer["size"]), data)

    def ask(self, job: dict[str, Any] | None, body: bytes, file: int | None = None) -> tuple[dict[str, Any], bytes]:
        """The next answer, to a new job or, for None, to the one under way."""
        begin = time.monotonic()
        try:
            if self._left <= 0:
                raise TimeoutError
            self._channel.settimeout(self._left)
            if job is not None:
                wire.send(self._channel, job, body, file)
            answer, data, _ = wire.receive(self._channel)
        except TimeoutError:
            limit = f"the limit of {self._seconds:g} seconds"
            raise MediaError(f"{self._name}: decoding took longer than {limit}") from None
        except (OSError, EOFError, ValueError):
            raise MediaError(f"{self._name}: it cannot be decoded within the memory allowed") from None
        finally:
            self._left -= time.monotonic() - begin
        if "refusal" in answer:
            self.refused = True
            # The worker knows no names; what it says begins with a stand-in.
            raise MediaError(f"{self._name}:{answer['refusal'].partition(':')[2]}")
        return answer, bytes(data)


def _stop_all(idle: Idle) -> None:
    with suppress(queue.Empty):
        while True:
            worker = idle.get_nowait()
            if worker is not None:
                worker.stop()
