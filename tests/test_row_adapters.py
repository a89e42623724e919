"""Laws of adapters chosen per request: merged into the weights = beside them, mixed in a batch = alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reference import TINY, make_inputs, random_adapter, tiny_model

from clearsight.engine import Engine, EngineSettings, Request
from clearsight.inputs import Grid, SamplingParams
from clearsight.model.lora import Adapter, LoraLayer, merge, read_adapter, write_adapter
from clearsight.model.quantize import quantize
from clearsight.model.weights import WeightsError

SETTINGS = EngineSettings(kv_bytes=2**22, block_size=4)
LAYOUTS = ([7], [3, Grid(1, 4, 6), 5], [Grid(2, 4, 4), 9])
KINDS = {"both": ("visual.", "model."), "words": ("model.",), "eyes": ("visual.",)}
ADAPTERS = {kind: random_adapter(parts, seed) for seed, (kind, parts) in enumerate(KINDS.items())}


def request(layout, adapter=None, seed=0):
    params = SamplingParams(max_tokens=10, repetition_guard=False)
    return Request(inputs=make_inputs(TINY, list(layout), seed), params=params, adapter=adapter)


def tokens(engine, item):
    return [event.token for event in engine.run(item)]


def engine_with_all():
    engine = Engine(tiny_model(), (), SETTINGS)
    for name, adapter in ADAPTERS.items():
        engine.add_adapter(name, adapter)
    return engine


@pytest.fixture(scope="module")
def merged():
    """What each request's answer must be: a model of its own whose weights hold the adapter."""
    answers = {}
    for name in (None, *ADAPTERS):
        model = tiny_model()
        if name is not None:
            merge(model, ADAPTERS[name])
        answers[name] = [tokens(Engine(model, (), SETTINGS), request(layout)) for layout in LAYOUTS]
    return answers


@pytest.mark.parametrize("step_tokens", [16, 512])
def test_any_mix_in_one_batch_equals_each_merged_model(merged, step_tokens):
    engine = engine_with_all()
    engine.settings = replace(SETTINGS, step_tokens=step_tokens)
    for _ in range(2):  # the second time through the caches
        asked = [(name, index) for index in range(len(LAYOUTS)) for name in (None, *ADAPTERS)]
        made = {engine.submit(request(LAYOUTS[index], name)): (name, index, []) for name, index in asked}
        while engine.has_work:
            for number, event in engine.step():
                made[number][2].append(event.token)
        for name, index, answer in made.values():
            assert answer == merged[name][index]
    assert engine.stats().running == engine.stats().kv_bytes_used == 0
    assert len({tuple(answers[1]) for answers in merged.values()}) == len(merged), "the adapters must matter"


def test_an_adapter_of_words_shares_what_was_seen_and_one_of_eyes_does_not():
    engine = engine_with_all()
    looked = []
    for name in (None, "words", "eyes", "both", "words"):
        tokens(engine, request(LAYOUTS[1], name))
        looked.append(engine.stats().vision_cache_misses)
    assert looked == [1, 1, 2, 3, 3]


def test_a_folder_loads_beside_a_quantised_model(tmp_path):
    write_adapter(ADAPTERS["words"], tmp_path)
    engine = Engine(quantize(tiny_model(torch.bfloat16), "int8"), (), SETTINGS)
    plain = tokens(engine, request(LAYOUTS[1]))
    engine.add_adapter("a", read_adapter(tmp_path))
    adapted = tokens(engine, request(LAYOUTS[1], "a"))
    assert adapted != plain
    assert plain == tokens(engine, request(LAYOUTS[1]))


def test_refusals():
    engine = engine_with_all()
    with pytest.raises(ValueError, match="there is no adapter named 'x'; the adapters are: both, words, eyes"):
        engine.submit(request([3], "x"))
    with pytest.raises(WeightsError, match="there is an adapter named 'both' already"):
        engine.add_adapter("both", ADAPTERS["both"])
    layer = LoraLayer(torch.zeros(1, 5), torch.zeros(7, 1), 1.0)
    with pytest.raises(WeightsError, match=r"for a layer of shape \(7, 5\); the model's is"):
        engine.add_adapter("b", Adapter({"model.layers.0.self_attn.q_proj": layer}))
    for name in ("model.embed_tokens", "model.layers.9.mlp.up_proj", "lm_head", "model"):
        with pytest.raises(WeightsError, match=f"the adapter 'b' changes '{name}'; only linear layers"):
            engine.add_adapter("b", Adapter({name: layer}))
