"""A conversation on a terminal or through a pipe."""

from __future__ import annotations

import argparse
import contextlib
import sys

from clearsight.cli.commands import Answering, check, note_answering, open_answering
from clearsight.cli.errors import user_errors
from clearsight.cli.options import UsageError, system_turn, user_turn
from clearsight.cli.output import complain, note_videos, show, show_end

CHAT_HELP = """\
/image PATH  attach a picture to the next question
/video PATH  attach a video, or a folder of pictures as one
/clear       start anew
/help        this list
/quit        leave (so do Ctrl-D and, at the prompt, Ctrl-C; Ctrl-C during an answer stops the answer)"""


def chat(args: argparse.Namespace) -> int:
    check(args, [user_turn(args, args.pictures, [])])
    with open_answering(args) as answering:
        note_answering(args, answering)
        return _Chat(args, answering).run()


class _Chat:
    """A conversation on a terminal or through a pipe; a mistake is reported and the conversation goes on."""

    def __init__(self, args: argparse.Namespace, answering: Answering) -> None:
        self.args = args
        self.answering = answering
        self.messages = system_turn(args)
        self.pictures = list(args.pictures)
        self.interactive = sys.stdin.isatty()
        self.exit_code = 0

    def run(self) -> int:
        """Answer line by line. Through a pipe a mistake shows in the exit code, as nobody reads along."""
        if self.interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  (line editing and history for input)
            print("Type a question; /image PATH or /video PATH attaches one, /help lists the rest.", file=sys.stderr)
        while True:
            try:
                line = input("> " if self.interactive else "").strip()
            except (EOFError, KeyboardInterrupt) as end:
                if not self.interactive and isinstance(end, KeyboardInterrupt):
                    raise
                line = "/quit"
            if line == "/quit":
                return self.exit_code
            try:
                self.handle(line)
            except user_errors() as error:
                complain(error)
                self.exit_code = 0 if self.interactive else 2

    def handle(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command in ("/image", "/video"):
            picture = rest.strip().strip("'\"")
            check(self.args, [user_turn(self.args, [picture], [])])
            self.pictures.append(picture)
        elif command == "/clear":
            self.messages, self.pictures = system_turn(self.args), []
        elif command == "/help":
            print(CHAT_HELP)
        elif command.startswith("/"):
            raise UsageError(f"unknown command {command!r}; /help lists them")
        elif line:
            self.answer(line)

    def answer(self, question: str) -> None:
        turn, self.pictures = user_turn(self.args, self.pictures, [question]), []
        stream = self.answering.start([*self.messages, turn])
        note_videos(stream)
        pieces: list[str] = []
        try:
            for piece in stream:
                pieces.append(piece)
                show(piece)
            show_end(stream.reply)
        except KeyboardInterrupt:
            stream.close()
            print(flush=True)
            print("(stopped)", file=sys.stderr)
        self.messages += [turn, {"role": "assistant", "content": "".join(pieces)}]
