"""/v1/realtime: a WebSocket on which frames arrive and questions are asked; one live session for each connection.

A frame is a binary message (eight bytes of big-endian float64, its time in seconds, then a picture file) or an event
with the same in JSON. All else is JSON events (realtime_schema.py); so is what the server sends.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import struct
import time
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from clearsight.inputs import SamplingParams
from clearsight.live import Live, LiveAnswer, LiveClosed, LiveSettings, Spoken, Standing
from clearsight.server import realtime_schema as schema
from clearsight.server.errors import ApiError, error_body, from_exception
from clearsight.server.service import Service

_TIME = struct.Struct(">d")
_STATE_SECONDS = 0.25  # states are sent no more often than this, except when frames are dropped
_OUTBOX = 4096  # events that a client may be behind
_PROTOCOL = "realtime"


def realtime_routes(service: Service) -> APIRouter:
    """The one WebSocket. Refused while the server's live sessions are all taken."""
    router = APIRouter()
    taken = 0

    async def realtime(socket: WebSocket) -> None:
        nonlocal taken
        if taken >= service.settings.live_sessions:
            service.metrics.refused += 1
            limit = service.settings.live_sessions
            await socket.close(1013, f"{limit} live sessions are under way, which is the limit")
            return
        taken += 1
        try:
            offered = socket.scope.get("subprotocols", [])
            await socket.accept(_PROTOCOL if _PROTOCOL in offered else None)
            await _Connection(service, socket).run()
        finally:
            taken -= 1

    router.routes.append(WebSocketRoute("/v1/realtime", realtime))
    return router


class _Connection:
    """One client. Messages are handled in order, so a client that sends faster than they can be is slowed by TCP."""

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self.service = service
        self.socket = socket
        self.settings = service.settings
        self.wishes = schema.SessionWishes()
        self.live: Live | None = None
        self.question = ""
        self.answer: LiveAnswer | None = None
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_OUTBOX)
        self.loop = asyncio.get_running_loop()
        self.sending: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.allowance, self.counted = self.settings.live_frames_per_second, time.monotonic()
        self.refused_frames = 0
        self.state_sent, self.dropped_sent = 0.0, 0

    async def run(self) -> None:
        """Serve until the client leaves, is idle for too long, or does not read."""
        self._send("session.created", session={"id": f"live-{secrets.token_hex(8)}", "model": self.settings.names[0]})
        sending = self.sending = asyncio.create_task(self._send_all())
        receiving = asyncio.create_task(self._receive_all())
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, receiving, *self.tasks):
                task.cancel()
            if self.live is not None:
                await asyncio.to_thread(self.live.close)
            await asyncio.gather(sending, receiving, *self.tasks, return_exceptions=True)
            if self.socket.application_state == WebSocketState.CONNECTED:
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                    await self.socket.close()
        if receiving.done() and not receiving.cancelled() and (error := receiving.exception()):
            raise error

    # --- in ---------------------------------------------------------------------------------------------------

    async def _receive_all(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, asyncio.TimeoutError):
            while True:
                message = await asyncio.wait_for(self.socket.receive(), self.settings.live_idle_seconds)
                if message["type"] == "websocket.disconnect":
                    return
                try:
                    await self._handle(message)
                except Exception as error:
                    # What is no refusal is raised again, and ends the connection.
                    refusal = from_exception(error)
                    self._send("error", **error_body(refusal.status, refusal.message, refusal.param, refusal.code))

    async def _handle(self, message: Any) -> None:
        data = message.get("bytes")
        if data is not None:
            if len(data) <= _TIME.size:
                raise ApiError(400, "a binary message is eight bytes of time and then a picture file")
            await self._frame(bytes(data[_TIME.size :]), _TIME.unpack_from(data)[0])
            return
        event = _parse(message.get("text") or "")
        if isinstance(event, schema.SessionUpdate):
            self._update(event.session)
        elif isinstance(event, schema.AppendFrame):
            await self._frame(_decoded(event.image), event.time)
        elif isinstance(event, schema.CreateItem):
            self.question = event.item.text
        elif isinstance(event, schema.CreateResponse):
            await self._ask()
        elif isinstance(event, schema.CancelResponse):
            if self.answer is not None:
                self.answer.close()
        elif isinstance(event, schema.CreateStanding):
            await self._stand(event)
        else:
            live = await self._session()
            if not live.unwatch(event.number):
                raise ApiError(404, f"there is no standing instruction {event.number}", param="number")

    def _update(self, wishes: schema.SessionWishes) -> None:
        if self.live is not None:
            raise ApiError(409, "the session has begun; its settings are fixed from the first frame or question on")
        limit = self.settings.live_budget_tokens
        if (wishes.budget_tokens or 0) > limit:
            raise ApiError(400, f"budget_tokens is {wishes.budget_tokens}; the limit here is {limit}",
                           param="budget_tokens")  # fmt: skip
        self.wishes = wishes
        self._send("session.updated", session=wishes.model_dump(exclude_none=True))

    async def _session(self) -> Live:
        """The session, made when it is first needed."""
        if self.live is None:
            self.live = await self.service.prepare(lambda: Live(self.service.vlm, self._live_settings(), self._spoken))
        return self.live

    def _live_settings(self) -> LiveSettings:
        wishes = self.wishes
        names = ("frames_per_second", "budget_tokens", "slot_tokens", "past")
        given = {name: getattr(wishes, name) for name in names if getattr(wishes, name) is not None}
        if wishes.instructions is not None:
            given["system"] = wishes.instructions
        positions = self.service.vlm.config.text.max_positions
        return LiveSettings(**{"budget_tokens": min(self.settings.live_budget_tokens, positions // 2), **given})

    async def _frame(self, picture: bytes, seconds: float) -> None:
        limit = self.settings.live_frame_bytes
        if len(picture) > limit:
            raise ApiError(413, f"a frame has {len(picture)} bytes; the limit is {limit}")
        live = await self._session()
        if self._too_fast():
            self.refused_frames += 1
        else:
            await self.service.prepare(lambda: live.push(picture, seconds))
        self._send_state(live)

    def _too_fast(self) -> bool:
        """Frames above the rate that the server reads are given up unread."""
        now, rate = time.monotonic(), self.settings.live_frames_per_second
        self.allowance = min(rate, self.allowance + (now - self.counted) * rate)
        self.counted = now
        if self.allowance < 1:
            return True
        self.allowance -= 1
        return False

    async def _stand(self, event: schema.CreateStanding) -> None:
        live = await self._session()
        names = ("instruction", "when", "every", "agree", "sure")
        standing = Standing(**{name: getattr(event, name) for name in names})
        number = await self.service.prepare(lambda: live.watch(standing))
        self._send("standing.created", number=number, instruction=event.instruction)

    async def _ask(self) -> None:
        if not self.question:
            raise ApiError(400, "there is no question; send conversation.item.create first")
        if self.answer is not None:
            raise ApiError(409, "an answer is being written; send response.cancel to stop it")
        live, text, self.question = await self._session(), self.question, ""
        self.answer = await self.service.prepare(lambda: live.ask(text, self._sampling()))
        task = asyncio.create_task(self._respond(live, self.answer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _sampling(self) -> SamplingParams:
        params, wishes = self.service.vlm.default_sampling, self.wishes
        if wishes.max_output_tokens is not None:
            params = replace(params, max_tokens=wishes.max_output_tokens)
        if wishes.temperature:
            params = replace(params, temperature=wishes.temperature, top_k=0)
        return params

    # --- out --------------------------------------------------------------------------------------------------

    async def _respond(self, live: Live, answer: LiveAnswer) -> None:
        name = f"resp-{secrets.token_hex(8)}"
        self._send("response.created", response={"id": name, "status": "in_progress"})
        begin = time.monotonic()
        pieces: list[str] = []
        pieces_of = iter(answer)
        try:
            while (piece := await asyncio.to_thread(next, pieces_of, None)) is not None:
                if not pieces:
                    self.service.metrics.first_token.observe(time.monotonic() - begin)
                pieces.append(piece)
                self._send("response.output_text.delta", response_id=name, delta=piece)
            reply = answer.reply
            self.service.metrics.finished(reply, time.monotonic() - begin)
            usage = {"input_tokens": reply.usage.prompt_tokens, "output_tokens": reply.usage.completion_tokens}
            end = {"status": "completed", "finish_reason": reply.finish_reason, "usage": usage}
        except LiveClosed:
            end = {"status": "cancelled" if answer.closed else "failed"}
        except ValueError as error:
            self._send("error", **error_body(400, str(error)))
            end = {"status": "failed"}
        finally:
            self.answer = None
        self._send("response.output_text.done", response_id=name, text="".join(pieces))
        self._send("response.done", response={"id": name, **end})
        self._send_state(live, always=True)

    def _spoken(self, spoken: Spoken) -> None:
        """Called in the session's own thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(lambda: self._send("standing.spoken", **asdict(spoken)))

    def _send_state(self, live: Live, *, always: bool = False) -> None:
        """Where things stand: how far the model is behind, and what was not looked at."""
        stats, now = live.stats(), time.monotonic()
        lost = stats.intake.dropped + self.refused_frames
        if not always and lost == self.dropped_sent and now - self.state_sent < _STATE_SECONDS:
            return
        self.state_sent, self.dropped_sent = now, lost
        state = {**asdict(stats.intake), "too_fast": self.refused_frames, **asdict(stats.session)}
        state |= {"lag_seconds": round(stats.lag_seconds, 3), "pair_seconds": round(stats.pair_seconds, 4)}
        self._send("input_video_buffer.state", state=state)

    def _send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": f"event-{secrets.token_hex(8)}", **fields}
        try:
            self.outbox.put_nowait(event)
        except asyncio.QueueFull:
            # A state is worth nothing once it is old; whoever would miss anything else has stopped reading.
            if kind != "input_video_buffer.state" and self.sending is not None:
                self.sending.cancel()

    async def _send_all(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, asyncio.TimeoutError):
            while True:
                text = json.dumps(await self.outbox.get(), ensure_ascii=False)
                await asyncio.wait_for(self.socket.send_text(text), self.settings.send_seconds)


def _parse(text: str) -> Any:
    try:
        return schema.CLIENT_EVENT.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"][1:] or first["loc"])
        raise ApiError(400, f"{where or 'the event'}: {first['msg']}", param=where or None) from error


def _decoded(image: str) -> bytes:
    body = image.partition(",")[2] if image.startswith("data:") else image
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise ApiError(400, f"image is damaged base64 ({error})", param="image") from error
