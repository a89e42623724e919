"""Serve a demo shop, to look at it or to let a model operate it: `python -m clearsight.agent.shop`."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading

from clearsight.agent.shop.server import Shop
from clearsight.agent.shop.tasks import KINDS, draw_task


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clearsight.agent.shop", description=__doc__)
    parser.add_argument("--kind", choices=tuple(KINDS), default="add", help="of the task it is set for (default: add)")
    parser.add_argument("--seed", type=int, default=0, help="another one is another shop")
    parser.add_argument("--split", choices=("train", "test"), default="test", help="whose looks, words and products")
    parser.add_argument("--port", type=int, default=8090, help="default: 8090")
    arguments = parser.parse_args()
    task = draw_task(arguments.kind, arguments.seed, arguments.split)
    try:
        shop = Shop(task.look, task.state, arguments.port)
    except (OSError, OverflowError) as error:
        print(f"error: port {arguments.port} cannot be used: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    with shop, contextlib.suppress(KeyboardInterrupt):
        print(f"the shop is at {shop.address} (stop with Ctrl-C); a task for it: {task.text}", flush=True)
        threading.Event().wait()
    print(f"\nthe task is {'solved' if task.solved(task.state) else 'not solved'}")


if __name__ == "__main__":
    main()
