"""The engine behind asyncio: one thread turns the loop, any number of tasks read their own answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Callable

from clearsight.engine.engine import Engine, EngineStats
from clearsight.engine.request import EngineFull, Request
from clearsight.inputs import TokenEvent


class EngineFailed(RuntimeError):
    """A step failed; the requests that were under way have ended, new ones are taken."""


class AsyncEngine:
    """Owns a thread that sleeps while there is nothing to do. Use from one event loop or several."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._wake = threading.Condition()
        self._closing = False
        self._fail: dict[int, Callable[[BaseException], None]] = {}
        self._thread = threading.Thread(target=self._turn, name="clearsight-engine", daemon=True)
        self._thread.start()

    async def stream(self, request: Request) -> AsyncGenerator[TokenEvent, None]:
        """The events of one request. Raises what `Engine.submit` raises before the first event.

        Closing the iterator, or cancelling the task that reads it, cancels the request and frees all it holds.
        """
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[TokenEvent | BaseException] = asyncio.Queue()

        def put(item: TokenEvent | BaseException) -> None:
            # A loop that has ended has no reader left to disappoint.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(inbox.put_nowait, item)

        # Hashing a large picture must not stall the event loop.
        number = await asyncio.to_thread(self._submit, request, put)
        try:
            while True:
                item = await inbox.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            self._fail.pop(number, None)
            self.engine.cancel(number)

    async def close(self, drain_seconds: float = 0.0) -> None:
        """Refuse new requests, let those under way go on for `drain_seconds`, then end what is left."""
        with self._wake:
            self._closing = True
        deadline = time.monotonic() + drain_seconds
        while self.engine.has_work and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self._end(EngineFailed("the engine is shutting down"))
        with self._wake:
            self._wake.notify_all()
        await asyncio.to_thread(self._thread.join)

    def stats(self) -> EngineStats:
        return self.engine.stats()

    def _submit(self, request: Request, put: Callable[[TokenEvent | BaseException], None]) -> int:
        with self._wake:
            if self._closing:
                raise EngineFull("the engine is shutting down and takes no new requests")
        number = self.engine.submit(request, put)
        self._fail[number] = put
        with self._wake:
            self._wake.notify_all()
        return number

    def _turn(self) -> None:
        while True:
            with self._wake:
                while not self.engine.has_work:
                    if self._closing:
                        return
                    self._wake.wait(timeout=1.0)
            try:
                self.engine.step()
            except Exception as error:  # whatever it was, other requests must still be served
                self._end(EngineFailed(f"the model failed: {error}"))

    def _end(self, error: EngineFailed) -> None:
        for number in self.engine.abort():
            fail = self._fail.pop(number, None)
            if fail is not None:
                fail(error)
