"""What a single question must not pay for: libraries that it has no use for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SIGN = Path(__file__).parent.parent / "examples" / "sign.png"

SCRIPT = f"""
import sys
from clearsight.cli import main
assert main(["ask", {str(SIGN)!r}, "What does it say?", "--max-tokens", "1"]) == 0
unused = ("torch._dynamo", "sympy", "httpx", "fastapi", "uvicorn", "av", "transformers", "matplotlib", "requests")
print("loaded:", [name for name in unused if name in sys.modules])
"""


def test_a_question_loads_no_library_that_it_does_not_use():
    printed = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines()[-1] == "loaded: []"
