"""The command line: parse, call, render. A user's mistake is one sentence on stderr and exit code 2."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Importing torch takes seconds, which --help, --version and a mistyped option need not spend: commands import it.
from clearsight import __version__
from clearsight.cli.batch import add_batch, batch
from clearsight.cli.bench import add_bench, bench
from clearsight.cli.commands import ask, count, info
from clearsight.cli.conversation import chat
from clearsight.cli.errors import user_errors
from clearsight.cli.evaluate import add_eval, evaluate
from clearsight.cli.live import add_live, live
from clearsight.cli.mcp import add_mcp, mcp
from clearsight.cli.merge import add_merge, merge
from clearsight.cli.operate import add_operate, operate
from clearsight.cli.options import Parser, add_ask, add_chat, add_count, add_info
from clearsight.cli.output import complain
from clearsight.cli.quantize import add_quantize, quantize
from clearsight.cli.serve import add_serve, serve
from clearsight.cli.train import add_train, train


class Command(NamedTuple):
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS = {
    "ask": Command("answer one question about pictures and videos", add_ask, ask),
    "chat": Command("hold a conversation about pictures and videos", add_chat, chat),
    "count": Command("count the tokens of pictures, videos and text, from headers alone", add_count, count),
    "batch": Command("answer a file of requests in OpenAI's batch form", add_batch, batch),
    "live": Command("watch a camera, screen, stream or file and answer meanwhile", add_live, live),
    "serve": Command("serve an OpenAI-compatible API and a page to talk to pictures and videos", add_serve, serve),
    "operate": Command("do a task in a browser or on an Android device, watched and recorded", add_operate, operate),
    "eval": Command("measure what a model sees, on pictures that training never shows", add_eval, evaluate),
    "train": Command("fine-tune a model on your own data, or check the data", add_train, train),
    "merge": Command("fold an adapter into its model's weights", add_merge, merge),
    "bench": Command("measure this engine beside other runtimes and the machine's own limits", add_bench, bench),
    "quantize": Command("save a model with packed 8 or 4 bit weights, which loads in seconds", add_quantize, quantize),
    "mcp": Command("offer looking at pictures, videos and pages to assistants, over MCP", add_mcp, mcp),
    "info": Command("say what a model is, needs and can do", add_info, info),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for a user's mistake, 130 after Ctrl-C, 141 if the reader of our output left."""
    _never_fail_on_characters()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; that must not fail aloud either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        complain(error)
        return 2


def _run(argv: Sequence[str]) -> int:
    command = COMMANDS.get(argv[0]) if argv else None
    if command is None:
        _top_parser().parse_args(argv[:1] or ["--help"])
    assert command is not None  # the parser left with help, version or an error
    parser = Parser(prog=f"clearsight {argv[0]}", description=command.help)
    command.add_arguments(parser)
    return command.run(parser.parse_intermixed_args(argv[1:]))


def _top_parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<8} {command.help}" for name, command in COMMANDS.items())
    parser = Parser(
        prog="clearsight",
        description="Look at pictures and answer, with Qwen2-VL models.",
        epilog=f"commands:\n{commands}\n\nEach has its own --help.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"clearsight {__version__}")
    parser.add_argument("command", choices=tuple(COMMANDS), metavar="COMMAND", help="one of those below")
    return parser


def _never_fail_on_characters() -> None:
    """A terminal or pipe that cannot show or spell a character gets a stand-in, not a traceback."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
