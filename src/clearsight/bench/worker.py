"""A process that holds one runtime and answers in JSON lines.

`python -m clearsight.bench.worker KIND THREADS FOLDER [CONVERTED]`
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from clearsight.bench.cases import Case
from clearsight.bench.runtimes import KINDS, Runtime


def serve(runtime: Runtime, jobs: Any, results: Any) -> None:
    """Answer until the pipe is closed. A job that fails ends the process: nothing after it could be trusted."""

    def answers(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [asdict(answer) for answer in runtime.answer_together([_case(case) for case in cases])]

    known: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
        "vision": lambda cases: runtime.vision(_case(cases[0])),
        "answers": answers,
        "peak_bytes": lambda _: runtime.peak_bytes(),
    }
    _say(results, {"token_bytes": runtime.token_bytes})
    for line in jobs:
        job = json.loads(line)
        _say(results, known[job["do"]](job["cases"]))


def _case(data: dict[str, Any]) -> Case:
    size = data["size"]
    return Case(**{**data, "size": None if size is None else tuple(size)})


def _say(results: Any, data: Any) -> None:
    results.write(json.dumps(data) + "\n")
    results.flush()


def main() -> None:
    kind, threads, *folders = sys.argv[1:]
    torch.set_num_threads(int(threads))
    # Whatever a library prints must not get between the answers.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(KINDS[kind].load(*map(Path, folders)), sys.stdin, results)


if __name__ == "__main__":
    main()
