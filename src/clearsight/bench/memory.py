"""How much memory this process has needed, or another."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Now; 0 where the system does not say."""
    return _status("VmRSS") or 0


def peak_bytes() -> int:
    """The most so far, mapped files included."""
    # Linux's ru_maxrss begins with what the parent had, so its own account is asked first.
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_bytes_of(process: int) -> int:
    """The same of another process that runs, by its number; 0 where the system does not say."""
    return _status("VmHWM", str(process)) or 0


def _status(name: str, process: str = "self") -> int | None:
    path = Path("/proc") / process / "status"
    found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), re.MULTILINE) if path.exists() else None
    return None if found is None else int(found[1]) * 1024
