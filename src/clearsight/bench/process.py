"""The parent's end of a worker process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from clearsight.bench.cases import Case
from clearsight.bench.runtimes import Answer


class RuntimeFailed(ValueError):
    """A runtime could not be measured; the text says which, and its own last words."""


_ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """In which any interpreter finds this very package, and nothing else that it does not have itself."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))}


def convert(kind: str, folder: Path, to: Path, python: str = sys.executable) -> None:
    """Write a checkpoint in a runtime's own form, in a process that ends with it. Raises RuntimeFailed."""
    command = [python, "-m", "clearsight.bench.convert", kind, str(folder), str(to)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise RuntimeFailed(f"the checkpoint could not be converted for {kind}: {_last(done.stderr)}")


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


class Worker:
    """One runtime in a process of its own. load_seconds: from the start of the process until it is ready.

    folders: the checkpoint, and for runtimes that convert it what came of it.
    """

    def __init__(self, kind: str, folders: Sequence[Path], threads: int, python: str = sys.executable) -> None:
        self.kind = kind
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the worker)
        begin = time.perf_counter()
        # A group of its own, so that a program which the runtime starts ends with it.
        self._process = subprocess.Popen(
            [python, "-m", "clearsight.bench.worker", kind, str(threads), *map(str, folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        self.token_bytes = int(self._read()["token_bytes"])
        self.load_seconds = time.perf_counter() - begin

    def vision(self, case: Case) -> float:
        return float(self._ask("vision", [case]))

    def answers(self, cases: Sequence[Case]) -> list[Answer]:
        return [Answer(data["begin"], tuple(data["times"])) for data in self._ask("answers", cases)]

    def peak_bytes(self) -> int:
        return int(self._ask("peak_bytes", []))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            assert pipe is not None
            pipe.close()

    def _ask(self, what: str, cases: Sequence[Case]) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, "cases": [asdict(case) for case in cases]}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died, which reading tells
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeFailed(f"{self.kind} ended before it was measured: {_last(self._errors.read())}")
        return json.loads(line)
