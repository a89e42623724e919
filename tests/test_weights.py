"""Weights in and out: the round trip, both spellings of names, and every refusal naming what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from memory import needs_proc, peak_growth
from reference import TINY, make_inputs, reference_kwargs, tiny_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLForConditionalGeneration

from clearsight.config import PRESETS, ConfigError, config_from_json, config_to_json
from clearsight.inputs import Grid
from clearsight.model.weights import WeightsError, load_model, random_model, save_model


@pytest.fixture
def folder(tmp_path):
    save_model(tiny_model(), tmp_path, dtype=torch.float32)
    return tmp_path


def assert_same(model, other):
    state = other.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(change(tensors), path)


@pytest.mark.parametrize("shard_bytes", [2**30, 20_000])
def test_save_then_load_is_the_same(tmp_path, shard_bytes):
    model = tiny_model()
    save_model(model, tmp_path, dtype=torch.float32, max_shard_bytes=shard_bytes)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_bytes == 20_000)
    config = config_from_json(json.loads((tmp_path / "config.json").read_text()))
    assert config == TINY
    assert_same(load_model(tmp_path, config), model)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("tied", [False, True])
def test_the_reference_library_loads_what_we_save(tmp_path, tied):
    config = replace(TINY, text=replace(TINY.text, tie_word_embeddings=tied))
    ours = random_model(config, seed=3)
    save_model(ours, tmp_path, dtype=torch.float32)
    theirs = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    inputs = make_inputs(config, [4, Grid(1, 4, 4), 3])
    with torch.inference_mode():
        expected = theirs(**reference_kwargs(config, inputs)).logits[0]
        torch.testing.assert_close(ours.logits(ours(inputs)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_we_load_what_the_reference_library_saves(tmp_path, tied):
    config = replace(TINY, text=replace(TINY.text, tie_word_embeddings=tied))
    ours = random_model(config, seed=3)
    save_model(ours, tmp_path / "a", dtype=torch.float32)
    theirs = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path / "a", dtype=torch.float32)
    theirs.save_pretrained(tmp_path / "b")
    read = config_from_json(json.loads((tmp_path / "b" / "config.json").read_text()))
    assert read.text == config.text
    assert read.vision == config.vision
    assert_same(load_model(tmp_path / "b", config), ours)


def test_newer_parameter_names_load(folder):
    def rename(tensors):
        return {
            "model." + n if n.startswith("visual.") else n.replace("model.", "model.language_model."): t
            for n, t in tensors.items()
        }

    rewrite(folder, rename)
    assert_same(load_model(folder, TINY), tiny_model())


def test_a_tied_head_stored_all_the_same_is_accepted(tmp_path):
    config = replace(TINY, text=replace(TINY.text, tie_word_embeddings=True))
    save_model(random_model(config), tmp_path, dtype=torch.float32)
    rewrite(tmp_path, lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"].clone()})
    assert_same(load_model(tmp_path, config), random_model(config))


def drop(name):
    return lambda tensors: {n: t for n, t in tensors.items() if n != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("model.norm.weight"), r"1 of \d+ tensors are missing, first 'model.norm.weight'"),
        (lambda t: {**t, "model.extra": torch.ones(2)}, "unknown tensor 'model.extra'"),
        (lambda t: {**t, "model.norm.weight": torch.ones(5)}, r"'model.norm.weight' has shape \(5,\); \(32,\)"),
        (lambda t: {n: x.half() for n, x in t.items()}, "dtype float16 is not supported"),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(WeightsError, match=message):
        load_model(folder, TINY)


@pytest.mark.parametrize("keep", [0, 5, 1000, -10])
def test_truncated_and_corrupt_files_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"model\.safetensors cannot be read as safetensors"):
        load_model(folder, TINY)


def test_missing_shards_and_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"neither model\.safetensors nor"):
        load_model(tmp_path, TINY)
    save_model(tiny_model(), tmp_path, max_shard_bytes=20_000)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(WeightsError, match=f"{shard.name} is missing"):
        load_model(tmp_path, TINY)


def test_an_index_cannot_name_files_elsewhere(tmp_path):
    save_model(tiny_model(), tmp_path / "a")
    index = {"weight_map": {"model.norm.weight": "../a/model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="not a safetensors file beside it"):
        load_model(tmp_path, TINY)


@needs_proc
def test_loading_keeps_peak_memory_near_the_weights(tmp_path):
    """Peak resident memory grows by at most 1.15 x the weights when all of them are read."""
    text = replace(TINY.text, vocab_size=100_000, hidden_size=256, num_heads=8, mrope_section=(4, 6, 6))
    config = replace(TINY, vision=replace(TINY.vision, out_dim=256), text=text)
    model = random_model(config)
    save_model(model, tmp_path)
    weights = sum(2 * parameter.numel() for parameter in model.parameters())
    before = f"""
from clearsight.config import config_from_json, read_json
from clearsight.model.weights import empty_model, load_model
folder = Path({str(tmp_path)!r})
config = config_from_json(read_json(folder / "config.json"))
empty_model(config)  # the first use of meta tensors imports a lot
"""
    measured = """
model = load_model(folder, config)
total = sum(float(p.max()) for p in model.parameters())
"""
    assert 0.5 < peak_growth(before, measured) / weights < 1.15


@pytest.mark.parametrize("name", PRESETS)
def test_config_round_trip(name):
    assert config_from_json(config_to_json(PRESETS[name])) == PRESETS[name]


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("", "hiden_size", 3, "unknown text config key 'hiden_size'"),
        ("vision_config", "dept", 3, "unknown vision config key 'dept'"),
        ("", "model_type", "llama", "model_type is 'llama'"),
        ("", "use_sliding_window", True, "'use_sliding_window' is True"),
        ("", "hidden_act", "gelu", "'hidden_act' is 'gelu'"),
        ("", "num_key_value_heads", 5, "must be a multiple"),
        ("", "rope_scaling", {"type": "yarn", "factor": 2}, "rope_scaling must be mrope"),
        ("", "num_hidden_layers", 0, "num_layers must be positive"),
    ],
)
def test_config_mistakes_are_named(where, key, value, message):
    data = config_to_json(PRESETS["2b"])
    (data[where] if where else data)[key] = value
    with pytest.raises(ConfigError, match=message):
        config_from_json(data)


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "rope_theta", "vision_config"])
def test_missing_config_keys_are_named(key):
    data = config_to_json(PRESETS["2b"])
    del data[key]
    with pytest.raises(ConfigError, match=f"'{key}' is missing"):
        config_from_json(data)


def test_float16_is_refused():
    with pytest.raises(WeightsError, match="float16 is not supported; use bfloat16 or float32"):
        random_model(TINY, dtype=torch.float16)
