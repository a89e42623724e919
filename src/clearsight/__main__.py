"""`python -m clearsight` is the command `clearsight`."""

from __future__ import annotations

import sys

from clearsight.cli import main

if __name__ == "__main__":
    sys.exit(main())
