"""Running turns for clients: prepared off the event loop, counted, cancelled when a client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import Request

from clearsight.answer import Delta
from clearsight.engine import AsyncEngine
from clearsight.server.errors import ApiError, from_exception
from clearsight.server.metrics import Metrics
from clearsight.server.schema import Sampled, text_length
from clearsight.server.settings import ServerSettings
from clearsight.vlm import VLM, Turn

T = TypeVar("T")

_WATCH_SECONDS = 0.25


class Service:
    """One model with its engine, as the routes see it."""

    def __init__(self, vlm: VLM, settings: ServerSettings) -> None:
        self.vlm = vlm
        self.settings = settings
        self.engine = AsyncEngine(vlm.engine)
        self.metrics = Metrics()
        self.in_flight = 0
        # Its own, so that slow addresses hold up nothing but other preparations.
        self._threads = ThreadPoolExecutor(settings.preparing, "clearsight-prepare")

    async def close(self) -> None:
        """Take no more requests; answers under way get the grace time, then an error."""
        await self.engine.close(self.settings.grace_seconds)
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def models(self) -> dict[str, str | None]:
        """What clients may ask for, and the adapter that it means: each name alone, and with ":" and an adapter's."""
        names = self.settings.names
        adapted = {f"{name}:{adapter}": adapter for name in names for adapter in self.vlm.engine.adapters}
        return {**dict.fromkeys(names), **adapted}

    def check_model(self, name: str) -> str | None:
        """The adapter that the name asks for, if any. Raises ApiError for a model that is not served."""
        models = self.models
        if name not in models:
            known = ", ".join(models)
            raise ApiError(404, f"the model {name!r} is not served here; the models are {known}",
                           param="model", code="model_not_found")  # fmt: skip
        return models[name]

    def check(self, body: Sampled) -> str | None:
        """Refuses what can be refused without any work, by ApiError. Returns the adapter that is asked for, if any."""
        adapter = None if body.model is None else self.check_model(body.model)
        n, most = getattr(body, "n", None) or 1, self.settings.max_n
        if n > most:
            raise ApiError(400, f"n is {n}; the limit is {most}", param="n")
        length, limit = text_length(body), self.settings.max_text
        if length > limit:
            message = f"the request has {length} characters of text; the limit is {limit}"
            raise ApiError(400, message, code="context_length_exceeded")
        return adapter

    @contextlib.asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Counts a request while it is prepared and answered. Raises ApiError when there are too many."""
        if self.in_flight >= self.settings.max_in_flight:
            self.metrics.refused += 1
            limit = self.settings.max_in_flight
            raise ApiError(429, f"{limit} requests are under way, which is the limit", code="overloaded", retry=2)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def prepare(self, make: Callable[[], T]) -> T:
        """Run preparation in a thread; what is wrong with the request becomes an ApiError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, make)
        except Exception as error:
            raise from_exception(error) from error

    async def deltas(self, turn: Turn) -> AsyncIterator[Delta]:
        """The parts of one answer as they become certain. Raises ApiError."""
        begin = time.monotonic()
        first = True
        events = self.engine.stream(turn.request)
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    if first:
                        self.metrics.first_token.observe(time.monotonic() - begin)
                        first = False
                    for delta in turn.reader.push(event):
                        yield delta
                    if turn.reader.stopped:
                        break
        except Exception as error:
            raise from_exception(error) from error
        for delta in turn.reader.finish():
            yield delta
        self.metrics.finished(turn.reader.reply, time.monotonic() - begin)

    async def answer(self, turn: Turn) -> None:
        """Read one answer to its end."""
        async for _ in self.deltas(turn):
            pass

    async def while_connected(self, request: Request, work: Awaitable[T]) -> T:
        """The result of `work`, which is cancelled if the client leaves."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_WATCH_SECONDS))[0]:
                if await request.is_disconnected():
                    raise ApiError(499, "the client left before the answer was complete")
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
