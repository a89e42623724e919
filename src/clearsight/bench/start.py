"""From the start of a process to nano's first token, as someone at a terminal waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image

_SIDE = 112


def measure_start(rounds: int, threads: int) -> float:
    """Seconds until `clearsight ask` prints the first letter about a small picture; the median of `rounds`."""
    with tempfile.TemporaryDirectory(prefix="clearsight-bench-") as folder:
        picture = Path(folder) / "picture.png"
        Image.new("RGB", (_SIDE, _SIDE), "red").save(picture)
        return float(f"{median(_once(picture, threads) for _ in range(rounds)):.3g}")


def _once(picture: Path, threads: int) -> float:
    command = [sys.executable, "-m", "clearsight", "ask", "--max-tokens", "1", str(picture), "What is it?"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        return time.perf_counter() - begin
