"""The loop that serves all requests: plan, encode, run, choose, commit."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator
from collections.abc import Sequence as Items
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from clearsight.engine.adapters import load_adapter
from clearsight.engine.blocks import BlockPool
from clearsight.engine.budget import PixelBudget
from clearsight.engine.cache import KVPool
from clearsight.engine.encoder import VisionEncoder
from clearsight.engine.identity import root_key, slot_keys, vision_spans
from clearsight.engine.repetition import RepetitionGuard
from clearsight.engine.request import EngineFull, Request, RequestTooLarge
from clearsight.engine.runner import Runner
from clearsight.engine.sampler import Sampler
from clearsight.engine.scheduler import Chunk, Scheduler
from clearsight.engine.sequence import Sequence, Slot
from clearsight.engine.settings import EngineSettings, kv_blocks
from clearsight.engine.speculation import Drafter
from clearsight.engine.vision_cache import VisionCache
from clearsight.inputs import ModelInputs, SamplingParams, TokenEvent
from clearsight.kernels import native
from clearsight.model.lora import Adapter
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.row_adapters import LoadedAdapter
from clearsight.model.weights import WeightsError

Sink = Callable[[TokenEvent], None]
T = TypeVar("T")

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the start and sizes now; bytes where the name says so."""

    waiting: int
    running: int
    kv_bytes_used: int
    kv_bytes_limit: int
    pixel_bytes: int
    vision_cache_bytes: int
    vision_cache_hits: int
    vision_cache_misses: int
    prefix_hit_tokens: int
    prompt_tokens: int
    generated_tokens: int
    preemptions: int
    drafted_tokens: int
    accepted_tokens: int


class Engine:
    """Many requests at once on one model. Every method may be called from any thread."""

    def __init__(
        self,
        model: Qwen2VL,
        stop_tokens: Items[int] | None = None,
        settings: EngineSettings = EngineSettings(),
    ) -> None:
        config = model.config
        self.model = model
        self.settings = settings
        tokens = config.tokens
        self.stop_tokens = frozenset((tokens.im_end, tokens.end_of_text) if stop_tokens is None else stop_tokens)
        blocks = kv_blocks(settings, config.text, model.dtype.itemsize)
        self._pool = BlockPool(blocks)
        self._kv = KVPool(config.text, blocks, settings.block_size, model.device, model.dtype)
        self._scheduler = Scheduler(settings, self._pool)
        self._encoder = VisionEncoder(model, VisionCache(settings.vision_cache_bytes))
        self._runner = Runner(model, self._kv)
        self._pixels = PixelBudget(settings.pixel_bytes)
        self._adapters: dict[str, LoadedAdapter] = {}
        self._ids = itertools.count(1)
        self._alive: dict[int, tuple[Sequence, Sink | None]] = {}
        self._lock = threading.RLock()
        self._orders: deque[Callable[[], None]] = deque()
        # Requests let in during a step join the scheduler only after it; the limit counts them from the start.
        self._door = threading.Lock()
        self._arriving = 0
        self._prompt_tokens = self._generated_tokens = self._drafted_tokens = self._accepted_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(self._alive or self._orders)

    @property
    def capacity(self) -> int:
        """Tokens that one sequence can have here: the model's context, or what the memory given holds."""
        return min(self.model.config.text.max_positions, self._pool.count * self.settings.block_size)

    def kv_bytes(self, tokens: int) -> int:
        """Memory that the keys and values of so many tokens take, in whole blocks."""
        return -(-tokens // self.settings.block_size) * self._kv.block_bytes

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that a request may choose from."""
        return tuple(self._adapters)

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        """Load a LoRA adapter beside the model under `name`. Raises WeightsError if it does not fit, or is there."""
        if name in self._adapters:
            raise WeightsError(f"there is an adapter named {name!r} already")
        self._adapters[name] = load_adapter(name, adapter, self.model, self.model.dtype)

    def submit(self, request: Request, sink: Sink | None = None) -> int:
        """Queue a request; returns its number. `sink` is called with each of its events, inside `step`.

        Raises RequestTooLarge for what can never run, EngineFull for what cannot now.
        """
        prompt = request.inputs.ids.shape[0]
        if len(request.inputs.lengths) != 1 or prompt == 0:
            raise ValueError(f"a request is one sequence; lengths are {request.inputs.lengths}")
        if prompt >= self.capacity:
            raise RequestTooLarge(f"the prompt has {prompt} tokens; the limit of prompt and answer is {self.capacity}")
        sequence = self._sequence(request)
        with self._door:
            waiting = self._scheduler.waiting + self._arriving
            if waiting >= self.settings.max_waiting:
                raise EngineFull(f"{waiting} requests are waiting; the limit is {self.settings.max_waiting}")
            self._pixels.take(request.inputs.vision)
            self._arriving += 1
        self._later(lambda: self._add(sequence, sink))
        return sequence.id

    def cancel(self, number: int) -> None:
        """Stop a request and free all it holds, at once or after the step under way; others' numbers are ignored."""
        self._later(lambda: self._remove(number))

    def abort(self) -> list[int]:
        """Cancel everything, after a step that failed; returns the numbers."""
        with self._lock:
            self._settle()
            numbers = list(self._alive)
            for number in numbers:
                self._remove(number)
            return numbers

    @torch.inference_mode()
    def step(self) -> list[tuple[int, TokenEvent]]:
        """One turn of the loop; returns the tokens made, with the numbers of their requests."""
        with self._lock, self._cores():
            self._settle()
            plan = self._scheduler.plan()
            # In pieces even when nobody is answering: whoever comes or leaves meanwhile is seen between them.
            self._encoder.advance(plan.encode, self.settings.vision_work)
            scores = self._runner.run(plan)
            events: list[tuple[int, TokenEvent]] = []
            for chunk, rows in zip(plan.chunks, scores, strict=True):
                events += [(chunk.sequence.id, event) for event in self._commit(chunk, rows)]
            self._settle()
            return events

    def _cores(self) -> AbstractContextManager[None]:
        """Quantised models run on the kernels' own threads, which torch's must leave in peace."""
        return native.alone() if self.model.model.stack is not None else nullcontext()

    def run(self, request: Request) -> Generator[TokenEvent, None, None]:
        """The events of one request; closing the iterator cancels it. Others on the same engine go on meanwhile."""
        inbox: deque[TokenEvent] = deque()
        number = self.submit(request, inbox.append)
        try:
            while True:
                while not inbox:
                    self.step()
                event = inbox.popleft()
                yield event
                if event.finish_reason is not None:
                    return
        finally:
            self.cancel(number)

    def generate(self, inputs: ModelInputs, params: SamplingParams) -> Generator[TokenEvent, None, None]:
        """Tokens that follow the single sequence `inputs`; the last event carries the finish reason.

        Ends with "stop" (an end token, which is not part of the answer), "length" (max_tokens or the context is
        full) or "repetition".
        """
        return self.run(Request(inputs=inputs, params=params))

    def between_steps(self, work: Callable[[], T]) -> T:
        """The result of `work`, other use of the model that must not run beside a step; keep it as short as one.

        It runs here if no step is under way, otherwise in the thread that makes the steps, after the one it is in.
        """
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        self._later(run)
        while True:
            try:
                return done.result(timeout=_POLL_SECONDS)
            except FutureTimeout:
                # A step may have ended between our look at the lock and our order: then it is ours to carry out.
                self._later(lambda: None)

    def stats(self) -> EngineStats:
        cache, scheduler = self._encoder.cache, self._scheduler
        return EngineStats(
            waiting=scheduler.waiting + self._arriving,
            running=len(scheduler.running),
            kv_bytes_used=self._pool.held * self._kv.block_bytes,
            kv_bytes_limit=self._pool.count * self._kv.block_bytes,
            pixel_bytes=self._pixels.bytes,
            vision_cache_bytes=cache.bytes,
            vision_cache_hits=cache.hits,
            vision_cache_misses=cache.misses,
            prefix_hit_tokens=scheduler.prefix_hit_tokens,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            preemptions=scheduler.preemptions,
            drafted_tokens=self._drafted_tokens,
            accepted_tokens=self._accepted_tokens,
        )

    def _sequence(self, request: Request) -> Sequence:
        config, params, inputs = self.model.config, request.params, request.inputs
        adapter = None if request.adapter is None else self._adapters.get(request.adapter)
        if adapter is None and request.adapter is not None:
            known = ", ".join(self._adapters) or "none"
            raise ValueError(f"there is no adapter named {request.adapter!r}; the adapters are: {known}")
        # An adapter of the language model alone sees pictures as the plain model does, and shares what it saw.
        eyes = root_key(request.salt, adapter.name if adapter is not None and adapter.sees else None)
        keys = slot_keys(inputs.vision, eyes) if inputs.vision is not None else []
        places = [(grid, slot) for grid, slots in enumerate(keys) for slot in range(len(slots))]
        spans = vision_spans(inputs, config.vision.merge_size, keys)
        return Sequence(
            id=next(self._ids),
            request=request,
            slots=[
                Slot(start, start + size, key, *place) for (start, size, key), place in zip(spans, places, strict=True)
            ],
            sampler=Sampler(
                params,
                inputs.ids.to(self.model.device),
                config.text.vocab_size,
                config.tokens.never_generated,
                request.constraint,
            ),
            guard=RepetitionGuard() if params.repetition_guard else None,
            drafter=Drafter(inputs.ids.tolist(), self.settings.draft_tokens) if self.settings.draft_tokens else None,
            room=min(params.max_tokens, self.capacity - inputs.ids.shape[0]),
            chain=[root_key(request.salt, request.adapter)],
            adapter=adapter,
        )

    def _commit(self, chunk: Chunk, rows: Tensor | None) -> list[TokenEvent]:
        """Take over what the chunk computed; the drafts hold as far as they are what would have been chosen."""
        sequence, events = chunk.sequence, []
        computed = chunk.stop
        if rows is not None:
            for index, row in enumerate(rows):
                events.append(self._choose(sequence, row))
                if events[-1].finish_reason is not None:
                    break
                if index == len(chunk.drafts) or events[-1].token != chunk.drafts[index]:
                    break
                computed += 1
        self._scheduler.store(sequence, computed)
        if chunk.drafts and sequence.drafter is not None:
            sequence.drafter.learn(len(chunk.drafts), computed - chunk.stop)
            self._drafted_tokens += len(chunk.drafts)
            self._accepted_tokens += computed - chunk.stop
        if sequence.drafter is not None:
            sequence.drafter.extend([event.token for event in events])
        self._deliver(sequence, events)
        return events

    def _choose(self, sequence: Sequence, scores_V: Tensor) -> TokenEvent:
        choice = sequence.sampler.choose(scores_V, self.stop_tokens)
        reason = None
        if choice.token in self.stop_tokens:
            reason = "stop"
        else:
            sequence.append(choice.token)
            if sequence.guard is not None and sequence.guard.push(choice.token):
                reason = "repetition"
            elif sequence.room == 0:
                reason = "length"
        return TokenEvent(choice.token, reason, choice.logprob, choice.top, sequence.cached or 0)

    def _deliver(self, sequence: Sequence, events: list[TokenEvent]) -> None:
        self._generated_tokens += len(events)
        sink = self._alive[sequence.id][1]
        if events and events[-1].finish_reason is not None:
            self._remove(sequence.id)
        if sink is not None:
            for event in events:
                sink(event)

    def _later(self, order: Callable[[], None]) -> None:
        """Carry out an order now, or at the end of the step that another thread is in: nobody waits for a step."""
        self._orders.append(order)
        if self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def _settle(self) -> None:
        while self._orders:
            self._orders.popleft()()

    def _add(self, sequence: Sequence, sink: Sink | None) -> None:
        with self._door:
            self._arriving -= 1
            self._scheduler.add(sequence)
        self._alive[sequence.id] = sequence, sink
        self._prompt_tokens += sequence.request.inputs.ids.shape[0]

    def _remove(self, number: int) -> None:
        if number in self._alive:
            sequence, _ = self._alive.pop(number)
            self._scheduler.remove(sequence)
            self._pixels.give_back(sequence.request.inputs.vision)
            self._encoder.drop(sequence)
