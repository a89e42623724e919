"""`clearsight live`: watch a camera, a screen, a stream or a file while questions are typed."""

from __future__ import annotations

import argparse
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from clearsight.cli.commands import load
from clearsight.cli.errors import user_errors
from clearsight.cli.options import UsageError, add_sampling, add_weights, sampling_params
from clearsight.cli.output import complain, note_nano, show, show_end

if TYPE_CHECKING:
    from clearsight.inputs import SamplingParams
    from clearsight.live import Live, LiveSettings, Spoken
    from clearsight.live.sources import Source

HELP = """\
QUESTION        ask about what has been seen so far
@SECONDS QUESTION  ask when the stream has come to that second
/watch TEXT     speak when it becomes true: a question, or "tell me when ..."
/change TEXT    speak when the short answer to TEXT changes
/unwatch N      take instruction N back
/stats          frames, memory and time
/help           this list
/quit           leave (so do Ctrl-D and Ctrl-C)"""


def add_live(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE",
                        help="camera[:DEVICE], screen[:WxH+X+Y], rtsp://..., http://... or a file")  # fmt: skip
    parser.add_argument("--watch", action="append", default=[], metavar="TEXT",
                        help='speak when this becomes true ("Is the light red?"); may be repeated')  # fmt: skip
    parser.add_argument("--watch-change", action="append", default=[], metavar="TEXT",
                        help="speak when the short answer to this question changes; may be repeated")  # fmt: skip
    parser.add_argument("--agree", type=int, default=2, metavar="N",
                        help="looks in a row that must agree before an instruction speaks (default: 2)")  # fmt: skip
    parser.add_argument("--fps", type=float, default=2.0, metavar="N", help="frames looked at in a second (default: 2)")
    parser.add_argument("--budget-tokens", type=int, metavar="N", help="all that is remembered, in tokens")
    parser.add_argument("--slot-tokens", type=int, default=64, metavar="N",
                        help="most tokens of two frames, which decides their size (default: 64)")  # fmt: skip
    parser.add_argument("--past", choices=("thin", "forget"), default="thin",
                        help="old frames: kept ever further apart, or dropped (default: thin)")  # fmt: skip
    parser.add_argument("--exact", action="store_true", help="compute what is kept anew whenever frames have left")
    parser.add_argument("--speed", type=float, default=1.0, metavar="N", help="of a file: 2 plays it twice as fast")
    parser.add_argument("--system", metavar="TEXT", help="system message")
    add_weights(parser)
    add_sampling(parser)


def live(args: argparse.Namespace) -> int:
    from clearsight.live import Live, LiveSettings
    from clearsight.live.sources import parse_source

    source = parse_source(args.source)
    try:
        system = {} if args.system is None else {"system": args.system}
        settings = LiveSettings(
            budget_tokens=args.budget_tokens,
            frames_per_second=args.fps,
            slot_tokens=args.slot_tokens,
            past=args.past,
            exact=args.exact,
            **system,
        )
        if not 0 < args.speed <= 100:
            raise ValueError(f"--speed is {args.speed:g}; it must be above 0 and at most 100")
    except ValueError as error:
        raise UsageError(str(error)) from error
    vlm = load(args)
    note_nano(args.model)
    watching = _Watching(args, source, settings, sampling_params(args, vlm.default_sampling))
    try:
        session = Live(vlm, settings, watching.spoken)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with session:
        return watching.run(session)


class _Watching:
    """One thread reads the source, this one the terminal, and the session answers in a third."""

    def __init__(
        self, args: argparse.Namespace, source: Source, settings: LiveSettings, params: SamplingParams
    ) -> None:
        self.args, self.source, self.settings, self.params = args, source, settings, params
        self.interactive = sys.stdin.isatty()
        self.stop = threading.Event()
        self.moved = threading.Condition()
        self.clock = 0.0
        self.ended = False
        self.failure: Exception | None = None
        self.printing = threading.Lock()
        self.heard: deque[str] = deque()
        self.exit_code = 0

    def run(self, session: Live) -> int:
        for text, when in [(t, "yes") for t in self.args.watch] + [(t, "change") for t in self.args.watch_change]:
            self._stand(session, text, when)
        reader = threading.Thread(target=self._read, args=(session,), name="clearsight-source", daemon=True)
        reader.start()
        if self.interactive:
            print("Type a question; /watch TEXT gives a standing instruction, /help lists the rest.", file=sys.stderr)
        try:
            self._lines(session)
            if not self.interactive:
                reader.join()
                session.settle()
        except KeyboardInterrupt:
            self.exit_code = 130
        finally:
            self.stop.set()
        self._summary(session)
        if self.failure is not None:
            raise self.failure
        return self.exit_code

    def spoken(self, event: Spoken) -> None:
        """Called by the thread that answers, which must not wait here for its own answer to be printed."""
        self.heard.append(f"[{_stamp(event.time)}] ({event.number}) {event.instruction} {event.text}\n")
        self._show_heard()

    def _show_heard(self) -> None:
        """Print what instructions had to say, now or as soon as the answer being printed has ended."""
        while self.heard and self.printing.acquire(blocking=False):
            try:
                while self.heard:
                    show(self.heard.popleft())
            finally:
                self.printing.release()

    def _read(self, session: Live) -> None:
        from clearsight.live import LiveClosed
        from clearsight.live.sources import SourceError, frames

        try:
            for seconds, frame in frames(self.source, self.stop, self.args.speed):
                session.push(frame, seconds)
                with self.moved:
                    self.clock = seconds
                    self.moved.notify_all()
        except (SourceError, LiveClosed) as error:
            self.failure = error
        if self.interactive and not self.stop.is_set():
            print("(the source has ended; questions are still answered, /quit leaves)", file=sys.stderr)
        with self.moved:
            self.ended = True
            self.moved.notify_all()

    def _lines(self, session: Live) -> None:
        while True:
            try:
                line = input("> " if self.interactive else "").strip()
            except EOFError:
                return
            if line == "/quit":
                self.stop.set()
                return
            try:
                self._handle(session, line)
            except user_errors() as error:
                complain(error)
                self.exit_code = 0 if self.interactive else 2

    def _handle(self, session: Live, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command in ("/watch", "/change"):
            self._stand(session, rest, "yes" if command == "/watch" else "change")
        elif command == "/unwatch":
            if not (rest.isdigit() and session.unwatch(int(rest))):
                raise UsageError(f"there is no instruction {rest!r}")
        elif command == "/stats":
            self._summary(session)
        elif command == "/help":
            print(HELP)
        elif command.startswith("/"):
            raise UsageError(f"unknown command {command!r}; /help lists them")
        elif command.startswith("@"):
            self._wait_until(command[1:])
            self._ask(session, rest)
        elif line:
            self._ask(session, line)

    def _stand(self, session: Live, text: str, when: str) -> None:
        from clearsight.live import Standing

        try:
            standing = Standing(instruction=text, when=when, agree=self.args.agree)
        except ValueError as error:
            raise UsageError(str(error)) from error
        number = session.watch(standing)
        if self.interactive:
            print(f"(instruction {number} stands)", file=sys.stderr)

    def _wait_until(self, text: str) -> None:
        try:
            seconds = float(text)
        except ValueError:
            raise UsageError(f"@{text} is no time; write @SECONDS QUESTION") from None
        with self.moved:
            self.moved.wait_for(lambda: self.ended or self.clock >= seconds)

    def _ask(self, session: Live, question: str) -> None:
        with self.printing:
            answer = session.ask(question, self.params, catch_up=self.ended)
            if not self.interactive:
                show(f"[{_stamp(self.clock)}] {question} ")
            try:
                for piece in answer:
                    show(piece)
                show_end(answer.reply)
            except KeyboardInterrupt:
                answer.close()
                print("\n(stopped)", file=sys.stderr)
        self._show_heard()

    def _summary(self, session: Live) -> None:
        stats = session.stats()
        seen, held = stats.intake, stats.session
        span = "" if held.oldest is None else f" from {_stamp(held.oldest)} to {_stamp(held.newest or 0.0)}"
        print(
            f"frames: {seen.taken} looked at, {seen.skipped} above {self.settings.frames_per_second:g} a second,"
            f" {seen.dropped} dropped, {seen.late} late; {1000 * stats.pair_seconds:.0f} ms for two\n"
            f"memory: {held.tokens} of {held.budget_tokens} tokens, {held.cache_bytes / 1e6:.0f} MB,"
            f" {2 * held.slots} frames{span}",
            file=sys.stderr,
        )


def _stamp(seconds: float) -> str:
    whole = int(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole // 60 % 60:02}:{whole % 60:02}"
