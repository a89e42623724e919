"""Laws of the engine: what runs beside a request, and how its work is cut, never changes its tokens."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
import torch
from reference import TINY, make_inputs, tiny_model

from clearsight.engine import AsyncEngine, Engine, EngineFull, EngineSettings, Request, RequestTooLarge
from clearsight.engine.settings import kv_token_bytes
from clearsight.inputs import Grid, ModelInputs, SamplingParams, VisionPatches

ROOMY = EngineSettings(kv_bytes=2**22, block_size=4, draft_tokens=0)
LAYOUTS = ([7], [3, Grid(1, 4, 6), 5], [Grid(2, 4, 4), 9], [2, Grid(1, 8, 8), 3, Grid(1, 4, 4), 2], [30])


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def request(layout, seed=0, max_tokens=12, **rest):
    params = SamplingParams(max_tokens=max_tokens, repetition_guard=False, **rest.pop("sampling", {}))
    return Request(inputs=make_inputs(TINY, list(layout), seed), params=params, **rest)


def alone(model, item, settings=ROOMY):
    return [event.token for event in Engine(model, (), settings).run(item)]


def finish(engine, numbers):
    """Steps until all are done; tokens by number."""
    made = {number: [] for number in numbers}
    while engine.has_work:
        for number, event in engine.step():
            made[number].append(event.token)
    return made


def nothing_held(engine):
    stats = engine.stats()
    return (stats.kv_bytes_used, stats.running, stats.waiting) == (0, 0, 0)


def test_batched_equals_alone(model):
    items = [request(layout, seed) for seed in range(3) for layout in LAYOUTS]
    engine = Engine(model, (), ROOMY)
    made = finish(engine, [engine.submit(item) for item in items])
    assert list(made.values()) == [alone(model, item) for item in items]
    assert nothing_held(engine)


@pytest.mark.parametrize("step_tokens", [1, 3, 16])
@pytest.mark.parametrize("vision_work", [1, 50])
def test_chunked_equals_whole(model, step_tokens, vision_work):
    settings = replace(ROOMY, step_tokens=step_tokens, max_running=1, vision_work=vision_work)
    for layout in LAYOUTS:
        assert alone(model, request(layout), settings) == alone(model, request(layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prefix_hit_equals_a_cold_start_and_never_looks_twice(model, layout):
    engine = Engine(model, (), ROOMY)
    first = [event.token for event in engine.run(request(layout))]
    looked = engine.stats().vision_cache_misses
    again = [event.token for event in engine.run(request(layout))]
    stats = engine.stats()
    assert again == first == alone(model, request(layout))
    assert stats.vision_cache_misses == looked
    length = make_inputs(TINY, list(layout)).ids.shape[0]
    assert stats.prefix_hit_tokens == (length - 1) // 4 * 4


def test_the_next_turn_computes_only_what_is_new(model):
    engine = Engine(model, (), ROOMY)
    item = request([6, Grid(1, 4, 4), 5])
    answer = [event.token for event in engine.run(item)]
    inputs = item.inputs
    tail = torch.tensor([*answer, 5, 6, 7])
    start = inputs.next_position
    longer = ModelInputs(
        torch.cat([inputs.ids, tail]),
        torch.cat([inputs.positions, torch.arange(start, start + len(tail)).expand(3, -1)], dim=1),
        (len(inputs.ids) + len(tail),),
        inputs.vision,
        inputs.vision_starts,
    )
    follow = replace(item, inputs=longer)
    expected = alone(model, follow)
    before = engine.stats().prefix_hit_tokens
    assert [event.token for event in engine.run(follow)] == expected
    # All but the answer's last token, which was chosen and never computed, in whole blocks.
    assert engine.stats().prefix_hit_tokens - before == (len(inputs.ids) + len(answer) - 1) // 4 * 4


def test_a_picture_is_known_again_after_other_words(model):
    engine = Engine(model, (), ROOMY)
    inputs = [make_inputs(TINY, [words, Grid(1, 8, 8), 3], seed=1) for words in (2, 5)]
    pixels = inputs[0].vision
    inputs[1] = replace(inputs[1], vision=pixels)
    for item in inputs:
        list(engine.run(Request(inputs=item, params=SamplingParams(max_tokens=2))))
    assert engine.stats().vision_cache_misses == 1
    assert engine.stats().vision_cache_hits == 1


def test_a_video_that_grew_shares_its_slots(model):
    engine = Engine(model, (), ROOMY)
    long = make_inputs(TINY, [Grid(5, 4, 4), 3], seed=2)
    short = make_inputs(TINY, [Grid(3, 4, 4), 3], seed=3)
    short = replace(short, vision=VisionPatches(long.vision.pixels[: 3 * 16], short.vision.grids))
    for item in (short, long):
        list(engine.run(Request(inputs=item, params=SamplingParams(max_tokens=2))))
    assert engine.stats().vision_cache_misses == 5


def test_tenants_share_nothing(model):
    engine = Engine(model, (), ROOMY)
    answers = [[e.token for e in engine.run(request(LAYOUTS[1], salt=salt))] for salt in (b"a", b"b", b"a")]
    stats = engine.stats()
    assert answers[0] == answers[1] == answers[2]
    length = make_inputs(TINY, list(LAYOUTS[1])).ids.shape[0]
    assert stats.prefix_hit_tokens == (length - 1) // 4 * 4  # the third found the first's, the second found nothing
    assert stats.vision_cache_misses == 2


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.1, "seed": 5}, {"repetition_penalty": 1.01}])
def test_speculative_equals_plain(model, sampling):
    """A cycle in the prompt makes drafts likely; a model that copies them makes some right."""
    cycle = torch.arange(10, 16).repeat(6)
    inputs = ModelInputs(cycle, torch.arange(36).expand(3, -1), (36,))
    item = Request(inputs=inputs, params=SamplingParams(max_tokens=40, repetition_guard=False, **sampling))
    engine = Engine(model, (), replace(ROOMY, draft_tokens=4))
    assert [event.token for event in engine.run(item)] == alone(model, item)
    assert engine.stats().drafted_tokens > 0
    assert nothing_held(engine)


def test_drafts_that_are_right_save_passes(model):
    """Greedy answers of a tiny model soon go round in circles, which drafts foresee."""
    item = request([5], max_tokens=200)
    engine = Engine(model, (), replace(ROOMY, draft_tokens=4))
    number, steps, made = engine.submit(item), 0, []
    while engine.has_work:
        made += [event.token for _, event in engine.step()]
        steps += 1
    assert number == 1
    assert made == alone(model, item)
    assert engine.stats().accepted_tokens > 0
    assert steps < len(made)


def test_memory_pressure_preempts_and_disturbs_nobody(model):
    per_token = kv_token_bytes(TINY.text, 4)
    settings = replace(ROOMY, kv_bytes=per_token * 64)
    items = [request([n, Grid(1, 4, 4), 3], seed=n, max_tokens=20) for n in range(2, 8)]
    engine = Engine(model, (), settings)
    made = finish(engine, [engine.submit(item) for item in items])
    assert list(made.values()) == [alone(model, item) for item in items]
    assert engine.stats().preemptions > 0
    assert nothing_held(engine)


def test_priority_goes_first(model):
    engine = Engine(model, (), replace(ROOMY, max_running=1))
    numbers = [engine.submit(request([5], priority=priority, max_tokens=3)) for priority in (5, 1, 3)]
    order = []
    while engine.has_work:
        order += [number for number, event in engine.step() if event.finish_reason]
    assert order == [numbers[1], numbers[2], numbers[0]]


def test_a_long_picture_does_not_stall_answers(model):
    """While one layer at a time of a large picture is encoded, a running answer gets a token in every step."""
    engine = Engine(model, (), replace(ROOMY, vision_work=1))
    talker = engine.submit(request([4], max_tokens=30))
    engine.step()
    looker = engine.submit(request([Grid(1, 16, 16), 2], max_tokens=2))
    tokens = [number for _ in range(TINY.vision.depth) for number, _ in engine.step()]
    assert tokens == [talker] * TINY.vision.depth
    assert looker in finish(engine, [talker, looker])


def test_whoever_comes_while_a_picture_is_encoded_need_not_wait_for_its_end(model):
    engine = Engine(model, (), replace(ROOMY, vision_work=1))
    looker = engine.submit(request([Grid(1, 16, 16), 2], max_tokens=2))
    engine.step()
    talker = engine.submit(request([4], max_tokens=2))
    assert [number for _ in range(2) for number, _ in engine.step()] == [talker] * 2
    engine.cancel(looker)
    assert nothing_held(engine)
    assert engine.stats().pixel_bytes == 0


def test_pictures_are_admitted_by_their_bytes(model):
    item = request([Grid(1, 8, 8), 2], max_tokens=2)
    size = item.inputs.vision.pixels.nbytes
    engine = Engine(model, (), replace(ROOMY, pixel_bytes=2 * size))
    for _ in range(3):  # several answers about the same pixels count once
        engine.submit(item)
    engine.submit(request([Grid(1, 8, 8), 2], seed=1))
    with pytest.raises(EngineFull, match=f"take {size} bytes as patches, those of requests under way {2 * size}; the"):
        engine.submit(request([Grid(1, 8, 8), 2], seed=2))
    with pytest.raises(
        RequestTooLarge, match=f"the pictures take {4 * size} bytes as patches; the limit is {2 * size}"
    ):
        engine.submit(request([Grid(1, 16, 16), 2]))
    engine.abort()
    assert engine.stats().pixel_bytes == 0
    engine.submit(request([Grid(1, 8, 8), 2], seed=2))


def test_refusals_name_the_limit(model):
    engine = Engine(model, (), replace(ROOMY, kv_bytes=kv_token_bytes(TINY.text, 4) * 8, max_waiting=2))
    with pytest.raises(RequestTooLarge, match="the prompt has 9 tokens; the limit of prompt and answer is 8"):
        engine.submit(request([9]))
    for _ in range(2):
        engine.submit(request([3]))
    with pytest.raises(EngineFull, match="2 requests are waiting; the limit is 2"):
        engine.submit(request([3]))
    engine.abort()
    assert nothing_held(engine)
    with pytest.raises(ValueError, match="block_size is 0"):
        EngineSettings(block_size=0)


def test_a_burst_within_one_step_is_counted(model):
    """Those that come while a step is under way join only after it; they take the places that are left all the same."""
    engine = Engine(model, (), replace(ROOMY, max_waiting=3))
    found = []

    def knock():
        for _ in range(8):
            try:
                found.append(engine.submit(request([3], max_tokens=1)))
            except EngineFull as error:
                found.append(str(error))

    def burst(event):
        if not found:
            thread = threading.Thread(target=knock)
            thread.start()
            thread.join()

    engine.submit(request([3], max_tokens=2), burst)
    engine.step()
    assert [type(each) for each in found] == [int] * 3 + [str] * 5
    assert set(found[3:]) == {"3 requests are waiting; the limit is 3"}
    while engine.has_work:
        engine.step()
    assert nothing_held(engine)


def test_logprobs_are_the_models_own(model):
    item = request([6, Grid(1, 4, 4), 3], max_tokens=3, sampling={"temperature": 2.0, "seed": 1, "logprobs": 5})
    events = list(Engine(model, (), ROOMY).run(item))
    with torch.inference_mode():
        expected = model.logits(model(item.inputs))[-1].log_softmax(-1)
    assert events[0].logprob == pytest.approx(float(expected[events[0].token]), abs=1e-4)
    values, tokens = expected.topk(5)
    assert [token for token, _ in events[0].top] == tokens.tolist()
    assert [value for _, value in events[0].top] == pytest.approx(values.tolist(), abs=1e-4)


def test_a_bias_forces_and_forbids(model):
    plain = alone(model, request([5], max_tokens=1))
    forced = request([5], max_tokens=4, sampling={"logit_bias": ((17, 100.0),)})
    assert alone(model, forced) == [17] * 4
    assert alone(model, request([5], max_tokens=1, sampling={"logit_bias": ((plain[0], -100.0),)})) != plain
    with pytest.raises(ValueError, match="logit_bias names token 999; tokens are 0 to 127"):
        alone(model, request([5], sampling={"logit_bias": ((999, 1.0),)}))


def test_async_streams_equal_alone_and_cancelling_frees(model):
    items = [request(layout, seed, max_tokens=15) for seed in range(4) for layout in LAYOUTS]

    async def collect(engine, item, stop_after=None):
        stream, made = engine.stream(item), []
        async for event in stream:
            made.append(event.token)
            if stop_after is not None and len(made) == stop_after:
                await stream.aclose()
                break
        return made

    async def main():
        engine = AsyncEngine(Engine(model, (), ROOMY))
        whole = await asyncio.gather(*(collect(engine, item) for item in items))
        cut = await asyncio.gather(*(collect(engine, item, 3) for item in items))
        task = asyncio.create_task(collect(engine, request([5], max_tokens=5000)))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while engine.engine.has_work:
            await asyncio.sleep(0.01)
        stats = engine.stats()
        await engine.close()
        return whole, cut, stats

    whole, cut, stats = asyncio.run(main())
    expected = [alone(model, item) for item in items]
    assert whole == expected
    assert cut == [tokens[:3] for tokens in expected]
    assert (stats.kv_bytes_used, stats.running, stats.waiting) == (0, 0, 0)


def test_a_failed_step_ends_its_requests_and_the_engine_lives_on(model):
    class Broken:
        def allowed(self):
            raise RuntimeError("out of order")

        def advance(self, token):
            raise AssertionError("nothing was chosen")

    async def main():
        engine = AsyncEngine(Engine(model, (), ROOMY))
        with pytest.raises(RuntimeError, match="the model failed: out of order"):
            async for _ in engine.stream(request([5], constraint=Broken())):
                pass
        made = [event.token async for event in engine.stream(request([5]))]
        await engine.close()
        with pytest.raises(EngineFull, match="shutting down"):
            async for _ in engine.stream(request([5])):
                pass
        return made

    assert asyncio.run(main()) == alone(model, request([5]))
