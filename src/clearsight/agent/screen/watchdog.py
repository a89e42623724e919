"""Ends a browser that hangs: most of Playwright's calls wait for a page for ever, and a page can compute for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator


class Watchdog:
    """flag: to be put on the browser's command line, so that its process can be found. barked: whether it was ended."""

    def __init__(self) -> None:
        self.flag = f"--clearsight-{uuid.uuid4().hex}"
        self.barked = False
        self._timer: threading.Timer | None = None
        self._seconds = 0.0

    @contextlib.contextmanager
    def watching(self, seconds: float) -> Iterator[None]:
        """End the browser if the block takes longer."""
        if self._timer is not None:
            yield  # inside a watched block already
            return
        self._seconds = seconds
        self._start()
        try:
            yield
        finally:
            self._stop()

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """Do not count the time of this block: a person is asked."""
        watched = self._timer is not None
        self._stop()
        try:
            yield
        finally:
            if watched:
                self._start()

    def _start(self) -> None:
        self._timer = threading.Timer(self._seconds, self._bark)
        self._timer.daemon = True
        self._timer.start()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _bark(self) -> None:
        self.barked = True
        listed = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=False).stdout
        for line in listed.splitlines():
            number, _, command = line.strip().partition(" ")
            if self.flag in command and number.isdecimal():
                _end(int(number))


def _end(process: int) -> None:
    """With its children, if it leads a group of its own: a busy page would outlive its browser and hold its pipes."""
    with contextlib.suppress(OSError):
        if os.getpgid(process) == process:
            os.killpg(process, signal.SIGKILL)
        else:
            os.kill(process, signal.SIGKILL)
