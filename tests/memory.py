"""Peak memory of a piece of code, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc to read peak memory"
)

_SCRIPT = """
import re
from pathlib import Path
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
{before}
start = peak()
{measured}
print("grown", peak() - start)
"""


def peak_growth(before: str, measured: str) -> int:
    """By how many bytes the code `measured` raises the peak of resident memory over what `before` left."""
    script = _SCRIPT.format(before=before, measured=measured)
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    found = re.search(r"grown (\d+)", printed)
    assert found is not None
    return int(found[1])
