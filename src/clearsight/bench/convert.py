"""A process that writes a checkpoint in a runtime's own form and ends, so that its memory is not the runtime's.

`python -m clearsight.bench.convert KIND FOLDER TO`
"""

from __future__ import annotations

import sys
from pathlib import Path

from clearsight.bench.runtimes import KINDS


def main() -> None:
    kind, folder, to = sys.argv[1:]
    KINDS[kind].convert(Path(folder), Path(to))


if __name__ == "__main__":
    main()
