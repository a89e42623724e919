"""Small passes of nano on one torch thread and on all, on a free machine and beside a program that keeps one core busy.

`python benchmarks/busy.py --rounds 5`: prints one JSON line of milliseconds per token and the ratios, medians of rounds
in turn. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from statistics import median

import torch

from clearsight import VLM, SamplingParams
from clearsight.engine import runner

PROMPT = "List the colours of the rainbow, one by one. " * 8


@contextmanager
def busy_core() -> Generator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            time.sleep(0.2)  # it is soon at work
            yield
        finally:
            other.kill()


def milliseconds_per_token(vlm: VLM, tokens: int) -> float:
    begin = time.perf_counter()
    reply = vlm.chat([{"role": "user", "content": PROMPT}], SamplingParams(max_tokens=tokens))
    return (time.perf_counter() - begin) * 1000 / reply.usage.completion_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vlm, limit = VLM.load("nano"), runner.SMALL_PASS
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for place, others in (("free", nullcontext), ("busy", busy_core)):
            for threads, most in (("all", 0), ("one", limit)):
                runner.SMALL_PASS = most
                with others():
                    times[f"{place}, {threads}"].append(milliseconds_per_token(vlm, arguments.tokens))
    took = {name: round(median(values), 2) for name, values in times.items()}
    gains = {place: round(took[f"{place}, all"] / took[f"{place}, one"], 2) for place in ("free", "busy")}
    print(json.dumps({"ms_per_token": took, "all / one": gains}))


if __name__ == "__main__":
    main()
