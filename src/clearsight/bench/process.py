"""The parent's end of a worker process."""

from __future__ import annotations

import json
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


class Worker:
    """One runtime in a process of its own. load_seconds: from the start of the process until it is ready."""

    def __init__(self, kind: str, folder: Path, threads: int) -> None:
        self.kind = kind
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the worker)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "clearsight.bench.worker", kind, str(folder), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
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
        self._process.kill()
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
            last = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise RuntimeFailed(f"{self.kind} ended before it was measured: {last}")
        return json.loads(line)
