"""A session with a thread of its own: frames are pushed from one side, questions asked from another."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from clearsight.answer import Reply
from clearsight.inputs import SamplingParams
from clearsight.live.frames import FrameSize
from clearsight.live.intake import Intake, IntakeStats, Pair
from clearsight.live.session import Session, SessionStats
from clearsight.live.settings import LiveSettings
from clearsight.live.standing import Spoken, Standing, Watcher
from clearsight.vlm import VLM

_MAX_QUESTIONS = 8


class LiveClosed(RuntimeError):
    """The session has ended, or its model failed; the text says which."""


class LiveFull(RuntimeError):
    """Too many questions wait, or too many instructions stand; the text names the limit."""


@dataclass(frozen=True, slots=True)
class LiveStats:
    """lag_seconds: from the newest frame seen to the newest pushed. pair_seconds: spent on one pair, lately."""

    intake: IntakeStats
    session: SessionStats
    lag_seconds: float
    pair_seconds: float


class LiveAnswer:
    """Pieces of an answer as they are made; `reply` holds the whole once the iteration has ended."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[str | Reply | BaseException] = queue.SimpleQueue()
        self._reply: Reply | BaseException | None = None
        self.closed = False

    def __iter__(self) -> Iterator[str]:
        while self._reply is None:
            item = self._inbox.get()
            if isinstance(item, str):
                yield item
            else:
                self._reply = item
        if isinstance(self._reply, BaseException):
            raise self._reply

    @property
    def reply(self) -> Reply:
        """The whole answer; reads the rest first if there is any."""
        for _ in self:
            pass
        assert isinstance(self._reply, Reply)
        return self._reply

    def close(self) -> None:
        """Stop answering after the token under way; what was said stays in the conversation."""
        self.closed = True

    def put(self, item: str | Reply | BaseException) -> None:
        """For the thread that answers."""
        self._inbox.put(item)


@dataclass(frozen=True, slots=True)
class _Question:
    text: str
    sampling: SamplingParams | None
    catch_up: bool
    answer: LiveAnswer


class Live:
    """A conversation about a running stream. Every method may be called from any thread.

    >>> with Live(VLM.load("nano")) as live:
    ...     live.push(frame, seconds)
    ...     print(live.ask("What is this?").reply.text)
    """

    def __init__(
        self,
        vlm: VLM,
        settings: LiveSettings = LiveSettings(),
        on_spoken: Callable[[Spoken], None] | None = None,
    ) -> None:
        """on_spoken: called, in the session's own thread, with what standing instructions have to say."""
        self.session = Session(vlm, settings)
        self._settings = settings
        self._on_spoken = on_spoken
        self._frames = FrameSize(vlm.processor, settings)
        self._intake = Intake(settings, self._frames.shrink)
        self._watchers: dict[int, Watcher] = {}
        self._questions: deque[_Question] = deque()
        self._number = 0
        self._newest: float | None = None
        self._pair_seconds = 0.0
        self._stats = self.session.stats()
        self._busy = False
        self._ended: BaseException | None = None
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="clearsight-live", daemon=True)
        self._thread.start()

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(self, frame: Any, time: float, *, wait: bool = False) -> str:
        """Hand in a frame seen at `time` (seconds, rising): "taken", "skipped" (above the frame rate) or "late".

        frame: RGB array (H, W, 3) uint8, PIL picture, bytes of a picture file, or what makes one of these when called,
        which a frame that is skipped never is. wait: rather than have older frames
        dropped, wait until there is room. Raises MediaError for what is no picture, LiveClosed.
        """
        with self._change:
            self._check()
            if wait:
                self._change.wait_for(lambda: self._ended or self._intake.pending < self._settings.max_pending)
                self._check()
        found = self._intake.push(frame, time)
        with self._change:
            if found != "late":
                self._newest = time
            self._change.notify_all()
        return found

    def ask(self, question: str, sampling: SamplingParams | None = None, *, catch_up: bool = False) -> LiveAnswer:
        """Ask now; the answer starts at once and is about the frames seen so far.

        catch_up: look first at every frame pushed before, a single one at the end included. Raises LiveFull,
        LiveClosed; what is wrong with the question itself is raised by the answer.
        """
        answer = LiveAnswer()
        with self._change:
            self._check()
            if len(self._questions) >= _MAX_QUESTIONS:
                raise LiveFull(f"{_MAX_QUESTIONS} questions are waiting, which is the limit")
            self._questions.append(_Question(question, sampling, catch_up, answer))
            self._change.notify_all()
        return answer

    def watch(self, standing: Standing | str) -> int:
        """Give a standing instruction; returns its number. Raises LiveFull, LiveClosed."""
        with self._change:
            self._check()
            if len(self._watchers) >= self._settings.max_instructions:
                limit = self._settings.max_instructions
                raise LiveFull(f"{limit} instructions are standing, which is the limit")
            self._number += 1
            made = standing if isinstance(standing, Standing) else Standing(instruction=standing)
            self._watchers[self._number] = Watcher(made)
            return self._number

    def unwatch(self, number: int) -> bool:
        """Take an instruction back; whether there was one."""
        with self._change:
            return self._watchers.pop(number, None) is not None

    def settle(self) -> None:
        """Wait until every whole pair and every question handed in so far is done with."""
        with self._change:
            self._change.wait_for(lambda: self._ended or not (self._busy or self._has_work()))

    def stats(self) -> LiveStats:
        seen = self._stats.newest
        lag = 0.0 if self._newest is None or seen is None else max(0.0, self._newest - seen)
        return LiveStats(self._intake.stats(), self._stats, lag, self._pair_seconds)

    def close(self) -> None:
        """End the session and free its cache. Answers under way end."""
        self._end(LiveClosed("the session was closed"))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # --- the session's own thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._change:
                self._busy = False
                self._change.notify_all()
                self._change.wait_for(lambda: self._ended or self._has_work())
                if self._ended:
                    return
                self._busy = True
                question = self._questions.popleft() if self._questions else None
            try:
                if question is not None:
                    self._answer(question)
                elif (pair := self._intake.take()) is not None:
                    self._look(pair)
            except Exception as error:
                self._end(LiveClosed(f"the model failed: {error}"))

    def _has_work(self) -> bool:
        return bool(self._questions or self._intake.pending)

    def _look(self, pair: Pair) -> None:
        begin = time.perf_counter()
        self.session.source_size = self._frames.source_size
        self.session.add(self._frames.patches(*pair.frames), pair.time)
        spent = time.perf_counter() - begin
        self._pair_seconds = 0.8 * self._pair_seconds + 0.2 * spent if self._pair_seconds else spent
        self._stats = self.session.stats()
        with self._change:
            self._change.notify_all()
            watchers = list(self._watchers.items())
        for number, watcher in watchers:
            if watcher.due() and not self._ended:
                self._consider(number, watcher, pair.time)

    def _consider(self, number: int, watcher: Watcher, now: float) -> None:
        """Look at the newest frames with one instruction in mind, and speak if there is something new."""
        standing = watcher.standing
        if standing.when == "yes":
            yes = self.session.chance_of_yes(standing.question)
            text = self.session.short_answer(standing.instruction) if watcher.push(standing.read(yes)) else None
        else:
            yes, said = None, self.session.short_answer(standing.question)
            text = said if watcher.push(said) else None
        if text is not None and self._on_spoken is not None:
            self._on_spoken(Spoken(number, standing.instruction, text, now, yes))

    def _answer(self, question: _Question) -> None:
        answer = question.answer
        try:
            self._catch_up(everything=question.catch_up)
            stream = self.session.ask(question.text, question.sampling)
        except ValueError as error:
            answer.put(error)
            return
        try:
            with contextlib.closing(stream):
                for piece in stream:
                    answer.put(piece)
                    if answer.closed or self._ended:
                        break
                else:
                    answer.put(stream.reply)
        except Exception as error:
            answer.put(LiveClosed(f"the model failed: {error}"))
            raise
        if answer.closed or self._ended:
            answer.put(LiveClosed("the answer was stopped"))
        self._stats = self.session.stats()

    def _catch_up(self, *, everything: bool) -> None:
        """Before the first slot a single frame is better than none; otherwise only if the asker wants to wait."""
        while everything or not self.session.timeline.slots:
            pair = self._intake.take(flush=True)
            if pair is None:
                return
            self._look(pair)

    def _check(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _end(self, reason: LiveClosed) -> None:
        with self._change:
            self._ended = self._ended or reason
            for question in self._questions:
                question.answer.put(self._ended)
            self._questions.clear()
            self._change.notify_all()
