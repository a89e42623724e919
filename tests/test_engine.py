"""Laws of generation: sampling against the reference's own processors, seeds, limits, the guard, forbidden tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import TINY, make_inputs, tiny_model
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from clearsight.config import ConfigError, SpecialTokens
from clearsight.engine import Engine, GenerationDefaults, runner
from clearsight.engine.repetition import MAX_PERIOD, MIN_ROUNDS, MIN_TOKENS, RepetitionGuard
from clearsight.engine.sampler import Sampler, _best
from clearsight.inputs import Grid, SamplingParams
from clearsight.model.weights import random_model


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_model(), stop_tokens=())


@pytest.fixture(scope="module")
def inputs():
    return make_inputs(TINY, [4, Grid(1, 4, 6), 5])


def tokens(engine, inputs, **settings):
    params = SamplingParams(**{"max_tokens": 24, "repetition_guard": False, **settings})
    return [event.token for event in engine.generate(inputs, params)]


@given(
    seed=st.integers(0, 2**31),
    temperature=st.floats(0.1, 3.0),
    top_k=st.integers(0, 60),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0.0, 0.5),
)
def test_filters_equal_the_reference(seed, temperature, top_k, top_p, min_p):
    logits = 3 * torch.randn(1, 50, generator=torch.Generator().manual_seed(seed))
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    for warper in (
        TopKLogitsWarper(top_k) if top_k else None,
        TopPLogitsWarper(top_p) if top_p < 1 else None,
        MinPLogitsWarper(min_p) if min_p else None,
    ):
        expected = warper(None, expected) if warper else expected
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    values, kept = _best(logits[0] / temperature, params)
    values = values.masked_fill(values.exp() < min_p * values[0].exp(), float("-inf")) if min_p else values
    ours = torch.full((50,), float("-inf")).scatter(0, kept, values)
    # The kept sets may differ only where the cumulative mass meets top_p within float32's rounding.
    differing = ours.isinf() != expected[0].isinf()
    assert float((logits[0] / temperature).softmax(-1)[differing].sum()) < 1e-3 or differing.sum() <= 1
    assert torch.equal(ours[~differing], expected[0][~differing])


@given(seed=st.integers(0, 2**31), penalty=st.floats(0.5, 2.0))
def test_repetition_penalty_equals_the_reference(seed, penalty):
    generator = torch.Generator().manual_seed(seed)
    prompt = torch.randint(0, 50, (7,), generator=generator)
    logits = 3 * torch.randn(50, generator=generator)
    sampler = Sampler(SamplingParams(repetition_penalty=penalty), prompt, 50, ())
    expected = RepetitionPenaltyLogitsProcessor(penalty)(prompt[None], logits[None].clone())[0]
    torch.testing.assert_close(sampler._adjusted(logits), expected)


def test_presence_and_frequency_penalties_count_the_answer_alone():
    logits = torch.zeros(4)
    logits[1], logits[2] = 1.0, 0.45
    sampler = Sampler(SamplingParams(presence_penalty=0.25, frequency_penalty=0.25), torch.tensor([1, 1]), 4, ())
    # 1.0 wins; then 1.0 - 0.5 against 0.45; then 1.0 - 0.75 loses.
    assert [sampler.choose(logits).token for _ in range(3)] == [1, 1, 2]


def test_sampled_frequencies_follow_the_probabilities():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    sampler = Sampler(SamplingParams(temperature=1.0, seed=7), torch.tensor([0]), 4, ())
    drawn = torch.bincount(torch.tensor([sampler.choose(logits).token for _ in range(4000)]), minlength=4) / 4000
    assert (drawn - logits.softmax(-1)).abs().max() < 0.03


def test_the_same_seed_gives_the_same_answer(engine, inputs):
    first = tokens(engine, inputs, temperature=1.5, seed=3)
    assert first == tokens(engine, inputs, temperature=1.5, seed=3)
    assert first != tokens(engine, inputs, temperature=1.5, seed=4)


@pytest.mark.parametrize("temperature", [1e-5, 1e-30, 2.2e-311])
def test_a_temperature_next_to_nothing_takes_the_best_token(temperature):
    sampler = Sampler(SamplingParams(temperature=temperature), torch.tensor([0]), 4, ())
    assert sampler.choose(torch.tensor([-300.0, 1.0, 500.0, 499.0])).token == 2


def test_top_k_one_is_greedy_at_any_temperature(engine, inputs):
    assert tokens(engine, inputs, temperature=2.0, top_k=1) == tokens(engine, inputs)


def test_interleaved_requests_do_not_disturb_each_other(engine, inputs):
    other = make_inputs(TINY, [Grid(2, 4, 4), 3], seed=9)
    params = SamplingParams(max_tokens=12, repetition_guard=False)
    pairs = zip(engine.generate(inputs, params), engine.generate(other, params), strict=True)
    mixed = [(a.token, b.token) for a, b in pairs]
    alone = zip(tokens(engine, inputs, max_tokens=12), tokens(engine, other, max_tokens=12), strict=True)
    assert mixed == list(alone)


@pytest.mark.parametrize(("limit", "threads"), [(runner.SMALL_PASS, 1), (0, 2)])
def test_small_passes_leave_torch_one_thread_and_change_nothing(monkeypatch, engine, inputs, limit, threads):
    monkeypatch.setattr(runner, "SMALL_PASS", limit)
    before, expected = torch.get_num_threads(), tokens(engine, inputs)
    used = []
    hook = engine.model.model.norm.register_forward_pre_hook(lambda *_: used.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        assert tokens(engine, inputs) == expected
        assert (set(used), torch.get_num_threads()) == ({threads}, 2)
    finally:
        torch.set_num_threads(before)
        hook.remove()


def test_vision_tokens_are_never_generated():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.model.norm.weight.fill_(1.0)
        model.lm_head.weight[list(TINY.tokens.never_generated)] = 100.0
    made = tokens(Engine(model, stop_tokens=()), make_inputs(TINY, [5]), temperature=5.0, seed=1, max_tokens=60)
    assert not set(made) & set(TINY.tokens.never_generated)


def test_finish_reasons(engine, inputs):
    greedy = tokens(engine, inputs)
    stopped = Engine(engine.model, stop_tokens=(greedy[3],))
    events = list(stopped.generate(inputs, SamplingParams(max_tokens=24, repetition_guard=False)))
    cut = greedy.index(greedy[3])
    assert [event.token for event in events] == greedy[: cut + 1]
    assert [event.finish_reason for event in events] == [None] * cut + ["stop"]
    events = list(engine.generate(inputs, SamplingParams(max_tokens=5)))
    assert [event.finish_reason for event in events] == [None] * 4 + ["length"]


def test_the_context_bounds_the_answer_and_a_full_prompt_is_refused(inputs):
    length = inputs.ids.shape[0]
    config = replace(TINY, text=replace(TINY.text, max_positions=length + 3))
    events = list(Engine(random_model(config), stop_tokens=()).generate(inputs, SamplingParams(max_tokens=50)))
    assert len(events) == 3
    assert events[-1].finish_reason == "length"
    config = replace(TINY, text=replace(TINY.text, max_positions=length))
    with pytest.raises(ValueError, match=f"prompt has {length} tokens; the limit of prompt and answer is {length}"):
        next(Engine(random_model(config)).generate(inputs, SamplingParams()))


def repeats(sequence):
    """The guard's definition, word for word."""
    for period in range(1, MAX_PERIOD + 1):
        span = max(MIN_TOKENS, MIN_ROUNDS * period)
        tail = sequence[-span:]
        if len(tail) == span and all(tail[i] == tail[i - period] for i in range(period, span)):
            return True
    return False


@settings(max_examples=60)
@given(
    prefix=st.lists(st.integers(0, 3), max_size=40),
    cycle=st.lists(st.integers(0, 3), min_size=1, max_size=70),
    rounds=st.integers(1, 40),
)
def test_the_repetition_guard_follows_its_definition(prefix, cycle, rounds):
    guard = RepetitionGuard()
    sequence = []
    for token in (prefix + cycle * rounds)[:700]:
        sequence.append(token)
        assert guard.push(token) == repeats(sequence)


def test_endless_repetition_has_its_own_finish_reason():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    events = list(Engine(model, stop_tokens=()).generate(make_inputs(TINY, [5]), SamplingParams(max_tokens=500)))
    assert len(events) == MIN_TOKENS
    assert events[-1].finish_reason == "repetition"


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -0.1), ("top_p", 1.5), ("max_tokens", 0), ("min_p", float("nan")), ("top_k", "3"), ("seed", 2.5)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        SamplingParams(**{name: value})


def test_generation_config_is_honoured():
    data = {"do_sample": True, "temperature": 0.01, "top_p": 0.001, "top_k": 1, "repetition_penalty": 1.05}
    data |= {"bos_token_id": 1, "pad_token_id": 1, "eos_token_id": [151645, 151643], "transformers_version": "4"}
    defaults = GenerationDefaults.from_json(data, SpecialTokens())
    expected = SamplingParams(temperature=0.01, top_p=0.001, top_k=1, repetition_penalty=1.05)
    assert defaults == GenerationDefaults(expected, (151645, 151643))
    assert GenerationDefaults.from_json({"temperature": 0.7}, SpecialTokens()).sampling.greedy
    with pytest.raises(ConfigError, match="unknown generation_config key 'temprature'"):
        GenerationDefaults.from_json({"temprature": 1}, SpecialTokens())
