"""A short turn of the soak that `make soak` runs for an hour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from memory import needs_proc

SOAK = Path(__file__).parent.parent / "benchmarks" / "soak.py"


@needs_proc
def test_mixed_work_repeats_itself_and_memory_stays_flat():
    run = subprocess.run([sys.executable, SOAK, "--minutes", "0.1"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["answers"] > 0
