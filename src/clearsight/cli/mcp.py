"""`clearsight mcp`: pictures, videos and pages as tools for assistants that speak MCP, over stdin and stdout."""

from __future__ import annotations

import argparse
import os

from clearsight.cli.operate import open_chat
from clearsight.cli.options import UsageError, add_adapter, add_server, add_weights


def add_mcp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", default=".", metavar="DIR",
                        help="files under this folder may be looked at (default: .)")  # fmt: skip
    parser.add_argument("--allow", action="append", default=[], metavar="HOST",
                        help="pages of this host may be opened; may be repeated (default: none)")  # fmt: skip
    add_weights(parser)
    add_adapter(parser)
    add_server(parser)
    parser.set_defaults(tool_format="hermes")


def mcp(args: argparse.Namespace) -> int:
    from clearsight.agent.looking import Looking, mcp_server

    if not os.path.isdir(args.root):
        raise UsageError(f"--root is {args.root!r}, which is no folder")
    chat, options = open_chat(args)
    options.pop("tool_format", None)
    mcp_server(Looking(chat, args.root, args.allow, **options)).run()
    return 0
