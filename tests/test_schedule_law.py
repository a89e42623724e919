"""One law over random schedules: whatever runs beside a request, and however its work is cut, its tokens are its own.

CLEARSIGHT_SCHEDULE_STEPS sets how many steps are taken; `make soak` takes many.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace

import pytest
import torch
from reference import TINY, make_inputs, random_adapter, tiny_model

from clearsight.engine import Engine, EngineFull, EngineSettings, Request
from clearsight.engine.settings import kv_token_bytes
from clearsight.inputs import Grid, ModelInputs, SamplingParams

STEPS = int(os.environ.get("CLEARSIGHT_SCHEDULE_STEPS", "3000"))
SEEDS = 4
TOKEN_BYTES = kv_token_bytes(TINY.text, 4)
LAYOUTS = ([7], [3, Grid(1, 4, 6), 5], [Grid(2, 4, 4), 9], [2, Grid(1, 8, 8), 3, Grid(1, 4, 4), 2], [30])
ADAPTERS = {"both": ("visual.", "model."), "words": ("model.",)}


class Even:
    """A constraint: even tokens only, never the same twice in a row."""

    def __init__(self):
        self.last = None

    def allowed(self):
        mask = torch.arange(TINY.text.vocab_size) % 2 == 0
        if self.last is not None:
            mask[self.last] = False
        return mask

    def advance(self, token):
        self.last = token


@dataclass(frozen=True)
class Wish:
    """What can be asked for again and again; constraints have state, so each request gets its own."""

    request: Request
    constrained: bool

    def new(self, **changes):
        return replace(self.request, constraint=Even() if self.constrained else None, **changes)


def wishes():
    styles = (
        {},
        {"temperature": 0.9, "seed": 3},
        {"repetition_penalty": 1.2, "logprobs": 2},
        {"temperature": 1.5, "seed": 9, "top_p": 0.8, "min_p": 0.02, "frequency_penalty": 0.5},
        {"logit_bias": ((5, 3.0), (6, -100.0))},
    )
    found = []
    for index, layout in enumerate(LAYOUTS):
        for turn, style in enumerate(styles):
            params = SamplingParams(max_tokens=3 + 5 * turn, repetition_guard=False, **style)
            adapter = (None, None, "words", "both")[(index + turn) % 4]
            item = Request(inputs=make_inputs(TINY, list(layout), turn % 2), params=params, adapter=adapter)
            found.append(Wish(item, constrained=(index + turn) % 3 == 0))
    cycle = torch.arange(10, 16).repeat(5)
    inputs = ModelInputs(cycle, torch.arange(30).expand(3, -1), (30,))
    return [*found, Wish(Request(inputs=inputs, params=SamplingParams(max_tokens=40, repetition_guard=False)), False)]


def make_engine(model, settings):
    engine = Engine(model, (), settings)
    for seed, (name, parts) in enumerate(ADAPTERS.items()):
        engine.add_adapter(name, random_adapter(parts, seed))
    return engine


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def known(model):
    """Every wish with its answer, each on an engine of its own that has room and makes no drafts."""
    settings = EngineSettings(kv_bytes=2**22, block_size=4, draft_tokens=0)
    return [(wish, [e.token for e in make_engine(model, settings).run(wish.new())]) for wish in wishes()]


def random_settings(rng):
    running = rng.choice([1, 3, 6])
    return EngineSettings(
        kv_bytes=TOKEN_BYTES * rng.choice([80, 120, 400]),
        block_size=rng.choice([2, 4, 16]),
        max_running=running,
        max_waiting=6,
        step_tokens=max(running, rng.choice([6, 23, 200])),
        vision_work=rng.choice([1, 40, 10_000]),
        vision_cache_bytes=rng.choice([0, 4000, 10**6]),
        draft_tokens=rng.choice([0, 2, 5]),
    )


class Schedule:
    """A client that arrives, waits, leaves and comes back at random, and checks every answer."""

    def __init__(self, engine, known, rng):
        self.engine, self.known, self.rng = engine, known, rng
        self.under_way = {}
        self.checked = self.cancelled = self.refused = 0

    def turn(self):
        if len(self.under_way) < 9 and self.rng.random() < 0.4:
            self.arrive()
        if self.under_way and self.rng.random() < 0.04:
            self.leave(self.rng.choice(list(self.under_way)))
        self.engine.step()

    def arrive(self):
        wish, answer = self.rng.choice(self.known)
        inbox = []
        # Some leave in the middle of a step, right after one of their tokens.
        patience = self.rng.randrange(1, 8) if self.rng.random() < 0.1 else None

        def sink(event):
            inbox.append(event)
            if len(inbox) == patience and number in self.under_way:
                self.leave(number)
            if event.finish_reason is not None and self.under_way.pop(number, None) is not None:
                assert [each.token for each in inbox] == answer
                assert all((each.logprob is None) == (wish.request.params.logprobs is None) for each in inbox)
                self.checked += 1

        salt, priority = self.rng.choice([b"", b"x"]), self.rng.randrange(3)
        try:
            number = self.engine.submit(wish.new(priority=priority, salt=salt), sink)
        except EngineFull:
            self.refused += 1
        else:
            self.under_way[number] = inbox

    def leave(self, number):
        del self.under_way[number]
        self.cancelled += 1
        self.engine.cancel(number)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_any_schedule_gives_the_same_tokens_and_leaves_nothing(model, known, seed):
    rng = random.Random(seed)
    settings = random_settings(rng)
    engine = make_engine(model, settings)
    schedule = Schedule(engine, known, rng)
    for _ in range(STEPS // SEEDS):
        schedule.turn()
        stats = engine.stats()
        assert stats.kv_bytes_used <= stats.kv_bytes_limit
        assert stats.vision_cache_bytes <= settings.vision_cache_bytes
    assert min(schedule.checked, schedule.cancelled) > 0
    for number in list(schedule.under_way):
        schedule.leave(number)
    assert_empty(engine)


def assert_empty(engine):
    """Counted where it is held, not where it is reported."""
    assert not engine.has_work
    assert engine._pool.held == 0
    assert not any(engine._pool._holders)
    assert engine._encoder._job is None
    assert not engine._scheduler.running
    assert engine._scheduler.waiting == 0
    assert engine._pixels.bytes == 0
    assert not engine._pixels._holders


@pytest.mark.parametrize("steps", range(12))
def test_cancelling_after_any_step_frees_everything(model, steps):
    """One picture request stopped before, while and after it is encoded, read and answered."""
    settings = EngineSettings(kv_bytes=2**20, block_size=4, step_tokens=6, max_running=2, vision_work=1)
    engine = make_engine(model, settings)
    item = Request(inputs=make_inputs(TINY, [5, Grid(1, 8, 8), 9]), params=SamplingParams(max_tokens=3))
    number = engine.submit(item)
    for _ in range(steps):
        engine.step()
    engine.cancel(number)
    assert_empty(engine)
