"""The front door: streamed = collected, stop strings, usage, what was used, and errors before any work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clearsight import VLM, SamplingParams
from clearsight.config import NANO
from clearsight.engine import Engine
from clearsight.media import MediaError
from clearsight.model.hub import ModelNotFound
from clearsight.model.weights import random_model
from clearsight.processor import Processor, PromptTooLong
from clearsight.processor.streaming import StopFilter
from clearsight.vlm import load_processor


@pytest.fixture(scope="module")
def vlm():
    """Nano's shape and vocabulary with random weights, whose answers are byte soup: the hardest text to stream."""
    model = random_model(NANO, seed=5, dtype=torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(30)
    return VLM("random", Processor.packaged("nano"), Engine(model), SamplingParams(max_tokens=60))


@pytest.fixture(scope="module")
def messages():
    picture = Image.effect_mandelbrot((90, 70), (-2, -1.5, 1, 1.5), 20)
    return [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]}]


@pytest.mark.parametrize("seed", range(4))
def test_streamed_equals_collected(vlm, messages, seed):
    params = SamplingParams(max_tokens=80, temperature=1.0, seed=seed)
    stream = vlm.stream(messages, params)
    pieces = list(stream)
    assert len(pieces) > 5
    assert "".join(pieces) == stream.reply.text == vlm.chat(messages, params).text


def test_usage_and_what_was_used(vlm, messages):
    reply = vlm.chat(messages, SamplingParams(max_tokens=7, temperature=1.0, seed=1))
    assert reply.usage.prompt_tokens == vlm.processor.count(messages).tokens
    assert reply.usage.completion_tokens == 7
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 7
    assert reply.finish_reason == "length"
    (used,) = reply.media
    assert used.original_size == (90, 70)
    assert used.tokens == used.grid.tokens()


def test_a_stop_string_ends_the_answer_before_it(vlm, messages):
    params = SamplingParams(max_tokens=60, temperature=1.0, seed=2)
    whole = vlm.chat(messages, params).text
    stop = whole[20:23]
    reply = vlm.chat(messages, replace(params, stop=("never there", stop)))
    assert reply.text == whole[: whole.index(stop)]
    assert reply.finish_reason == "stop"


@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=12),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
def test_the_stop_filter_cuts_at_the_first_stop_to_complete(pieces, stops):
    text = "".join(pieces)
    stop_filter, shown = StopFilter(tuple(stops)), ""
    for piece in pieces:
        shown += stop_filter.push(piece)
        if stop_filter.stopped:
            break
    else:
        shown += stop_filter.finish()
    assert stop_filter.stopped == any(stop in text for stop in stops)
    if stop_filter.stopped:
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)
        assert any(text[len(shown) :].startswith(stop) for stop in stops)
    else:
        assert shown == text


def test_a_closed_stream_has_no_reply(vlm, messages):
    stream = vlm.stream(messages)
    next(iter(stream))
    stream.close()
    with pytest.raises(RuntimeError, match="closed before it was complete"):
        _ = stream.reply


def test_bad_input_raises_before_any_model_work(vlm, monkeypatch):
    monkeypatch.setattr(vlm.engine, "model", None)
    with pytest.raises(MediaError, match=r"absent\.png"):
        vlm.stream([{"role": "user", "content": [{"type": "image", "image": "absent.png"}]}])
    with pytest.raises(PromptTooLong, match=f"limit of prompt and answer is {NANO.text.max_positions}"):
        vlm.stream([{"role": "user", "content": "x" * 9000}])


def test_random_weights_need_a_preset():
    with pytest.raises(ModelNotFound, match="has no preset"):
        VLM.load("nobody/nothing", random_weights=True)
    assert VLM.load("nano", random_weights=True).config == NANO


def test_official_models_count_without_a_download():
    assert load_processor("Qwen/Qwen2-VL-7B-Instruct").config == load_processor("7b").config
