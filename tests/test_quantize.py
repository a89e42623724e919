"""Quantised models: near the full one, saved and loaded back the same, and the published packed formats."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from memory import needs_proc, peak_growth
from reference import TINY, make_inputs, tiny_model
from safetensors.torch import load_file, save_file
from torch import nn

from clearsight.config import ConfigError, config_to_json
from clearsight.engine.cache import KVPool, PagedStep
from clearsight.inputs import Grid
from clearsight.kernels.linear import dequantize
from clearsight.model.quantize import MODES, QuantizedLinear, load, quantize, save_quantized
from clearsight.model.weights import WeightsError, random_model, save_model

TIED = replace(TINY, text=replace(TINY.text, tie_word_embeddings=True))
# Widths that hold several groups, as the published formats need.
WIDE = replace(
    TINY,
    vision=replace(TINY.vision, out_dim=256),
    text=replace(TINY.text, hidden_size=256, intermediate_size=384, mrope_section=(8, 12, 12)),
)


def logits(model, seed=0):
    inputs = make_inputs(model.config, [5, Grid(1, 4, 6), 4], seed)
    with torch.inference_mode():
        return model.logits(model(inputs))


def quantized_layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}


def use_dequantized(model):
    """The same model with full weights that equal the quantised ones."""
    for name, layer in quantized_layers(model).items():
        full = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        weight = dequantize(layer.weight)
        full.weight.data = (
            weight if layer.order is None else torch.zeros_like(weight).index_copy(1, layer.order, weight)
        )
        if layer.bias is not None:
            full.bias.data = layer.bias
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, full)
    return model


def relative_error(found, exact):
    return ((found - exact).norm() / exact.norm()).item()


# --- quantising --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, TIED, WIDE], ids=["untied", "tied", "wide"])
@pytest.mark.parametrize(("mode", "limit"), [("int8", 0.03), ("int4", 0.2)])
def test_logits_stay_near_the_full_model_s(config, mode, limit):
    exact = logits(random_model(config, seed=1))
    found = logits(quantize(random_model(config, seed=1), mode))
    assert 0 < relative_error(found, exact) < limit


@pytest.mark.parametrize("mode", MODES)
def test_all_linear_layers_and_the_head_are_quantised(mode):
    model = quantize(random_model(TIED, dtype=torch.bfloat16), mode)
    assert not [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    four = {name for name, layer in quantized_layers(model).items() if layer.bits == 4}
    assert "lm_head" in quantized_layers(model)
    assert all(name.startswith("model.layers.") for name in four)
    assert len(four) == (7 * TIED.text.num_layers if mode == "int4" else 0)
    assert logits(model).dtype == torch.bfloat16


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [70, 1, 130]])
def test_the_stack_in_one_call_equals_the_modules_one_by_one(mode, lengths):
    """Two passes, so that the second sees what the first has left in the pool; to the bit."""
    model = quantize(random_model(WIDE, dtype=torch.bfloat16), mode)
    if model.model.stack is None:
        pytest.skip("no native attention here")
    contexts = [length + 20 for length in lengths]
    tables = torch.randperm(16 * len(lengths), generator=torch.Generator().manual_seed(0)).int().chunk(len(lengths))

    @torch.inference_mode()
    def run():
        pool = KVPool(WIDE.text, 16 * len(lengths), 16, model.device, model.dtype)
        generator = torch.Generator().manual_seed(1)
        for new, seen in (([20] * len(lengths), [20] * len(lengths)), (lengths, contexts)):
            x = torch.randn(sum(new), 256, generator=generator).bfloat16()
            positions = torch.cat([torch.arange(s - n, s) for n, s in zip(new, seen, strict=True)]).expand(3, -1)
            hidden = model.model(x, positions, PagedStep(pool, tables, new, seen))
        return hidden

    together = run()
    model.model.stack = None
    assert torch.equal(together, run())


def test_quantising_twice_changes_nothing():
    model = quantize(tiny_model(), "int8")
    before = logits(model)
    assert torch.equal(logits(quantize(model, "int8")), before)


def test_an_unknown_mode_is_refused():
    with pytest.raises(WeightsError, match="quantisation 'int2' is not supported; use one of int8, int4"):
        quantize(tiny_model(), "int2")


@pytest.mark.parametrize("mode", MODES)
def test_quantising_on_load_equals_quantising_after(tmp_path, mode):
    model = random_model(TIED, seed=2)
    save_model(model, tmp_path, dtype=torch.float32)
    loaded = load(tmp_path, TIED, mode=mode)
    assert torch.equal(logits(loaded), logits(quantize(model, mode)))


def test_without_a_mode_weights_are_loaded_as_stored(tmp_path):
    model = tiny_model()
    save_model(model, tmp_path, dtype=torch.float32)
    assert torch.equal(logits(load(tmp_path, TINY)), logits(model))


@needs_proc
def test_peak_memory_of_quantising_on_load_is_bounded(tmp_path):
    """Never all full weights beside the quantised ones."""
    text = replace(TIED.text, hidden_size=1024, intermediate_size=4096, num_layers=6, mrope_section=(32, 48, 48))
    config = replace(TIED, vision=replace(TIED.vision, out_dim=1024), text=text)
    save_model(random_model(config, dtype=torch.bfloat16), tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    before = f"""
from clearsight.config import PRESETS
from clearsight.model.hub import read_config
from clearsight.model.quantize import load, quantize
from clearsight.model.weights import random_model
from pathlib import Path
folder = Path({str(tmp_path)!r})
config = read_config(folder)
quantize(random_model(PRESETS["nano"]), "int8")  # what every first use brings into memory
"""
    grown = peak_growth(before, "load(folder, config, mode='int8')")
    assert grown < 0.75 * size


# --- our own files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("mode", MODES)
def test_saved_then_loaded_is_the_same(tmp_path, config, mode):
    model = quantize(random_model(config, seed=4, dtype=torch.bfloat16), mode)
    save_quantized(model, tmp_path)
    again = load(tmp_path, config)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(logits(again), logits(model))
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_full_model_is_not_saved_as_quantised(tmp_path):
    with pytest.raises(WeightsError, match="not quantised"):
        save_quantized(tiny_model(), tmp_path)


def test_damaged_files_are_refused(tmp_path):
    save_quantized(quantize(tiny_model(), "int4"), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    name = "model.layers.0.mlp.up_proj"
    save_file({**tensors, f"{name}.data": tensors[f"{name}.data"][:, 1:].contiguous()}, path)
    with pytest.raises(WeightsError, match=r"up_proj' do not fit: data is torch.uint8 \(2, 3, 128\)"):
        load(tmp_path, TINY)
    save_file({n: t for n, t in tensors.items() if n != f"{name}.scales"}, path)
    with pytest.raises(WeightsError, match="up_proj' do not fit: 'scales'"):
        load(tmp_path, TINY)


# --- published formats -------------------------------------------------------------------------------------


def pack_words(numbers, bits):
    """Unsigned numbers (rows, columns) to 32-bit words along the columns, low bits first, one by one."""
    words = []
    for row in numbers.tolist():
        for start in range(0, len(row), 32 // bits):
            word = sum(value << (bits * place) for place, value in enumerate(row[start : start + 32 // bits]))
            words.append(word - (1 << 32) if word >= 1 << 31 else word)
    return torch.tensor(words, dtype=torch.int32).view(numbers.shape[0], -1)


def random_layer(rows, columns, bits, group, generator, symmetric):
    levels = torch.randint(0, 1 << bits, (rows, columns), generator=generator)
    zeros = torch.randint(1, 1 << bits, (rows, columns // group), generator=generator)
    if symmetric:
        zeros[:] = 1 << (bits - 1)
    scales = (torch.rand(rows, columns // group, generator=generator) + 0.5) * columns**-0.5 / (1 << (bits - 1))
    return levels, zeros, scales.half()


def gptq_tensors(levels, zeros, scales, bits, group_of):
    stored = {"qweight": pack_words(levels, bits).T.contiguous(), "qzeros": pack_words(zeros.T - 1, bits)}
    return {**stored, "scales": scales.T.contiguous(), "g_idx": group_of.int()}


AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)


def awq_tensors(levels, zeros, scales, bits, group_of):
    def interleave(x):
        return x.unflatten(1, (-1, 8))[:, :, AWQ_COLUMNS].flatten(1)

    stored = {"qweight": pack_words(interleave(levels.T), 4), "qzeros": pack_words(interleave(zeros.T), 4)}
    return {**stored, "scales": scales.T.contiguous()}


def write_checkpoint(folder, layer_tensors, quantization, *, bits, group, scattered=False, symmetric=False):
    """A checkpoint whose language layers are packed at random; returns the model with the same weights in full."""
    generator = torch.Generator().manual_seed(bits + group)
    model = random_model(WIDE, seed=1)
    tensors = {name: tensor.half() for name, tensor in model.state_dict().items()}
    for name, module in model.model.layers.named_modules(prefix="model.layers"):
        if not isinstance(module, nn.Linear):
            continue
        rows, columns = module.weight.shape
        size = columns if group == -1 else group
        levels, zeros, scales = random_layer(rows, columns, bits, size, generator, symmetric)
        group_of = torch.arange(columns) // size
        if scattered:
            group_of = group_of[torch.randperm(columns, generator=generator)]
        module.weight.data = (levels - zeros[:, group_of]) * scales[:, group_of].float()
        del tensors[f"{name}.weight"]
        packed = layer_tensors(levels, zeros, scales, bits, group_of)
        tensors |= {f"{name}.{leaf}": tensor for leaf, tensor in packed.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    config = {**config_to_json(WIDE), "torch_dtype": "float16", "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config))
    return model


def gptq_config(bits=4, group=128, **changes):
    return {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": False, "sym": True, **changes}


def awq_config(group=128, **changes):
    common = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    return {**common, "modules_to_not_convert": ["visual"], **changes}


def check_checkpoint(folder, full):
    loaded = load(folder, WIDE, dtype=torch.float32)
    assert len(quantized_layers(loaded)) == 7 * WIDE.text.num_layers
    exact = logits(full)
    assert relative_error(logits(loaded), exact) < 0.03  # activations in 8 bits
    restored = use_dequantized(loaded)
    for name, layer in full.model.layers.named_modules():
        if isinstance(layer, nn.Linear):
            torch.testing.assert_close(restored.model.layers.get_submodule(name).weight, layer.weight)
    assert relative_error(logits(restored), exact) < 2e-3  # everything else was stored in float16
    assert load(folder, WIDE).dtype == torch.bfloat16


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("group", [32, 128, -1])
def test_gptq(tmp_path, bits, scattered, group):
    config = gptq_config(bits, group, desc_act=scattered)
    check_checkpoint(
        tmp_path,
        write_checkpoint(
            tmp_path, gptq_tensors, config, bits=bits, group=group, scattered=scattered, symmetric=group == 128
        ),
    )


@pytest.mark.parametrize("group", [32, 128])
def test_awq(tmp_path, group):
    check_checkpoint(tmp_path, write_checkpoint(tmp_path, awq_tensors, awq_config(group), bits=4, group=group))


def test_what_a_published_checkpoint_holds_in_full_can_be_quantised_too(tmp_path):
    full = write_checkpoint(tmp_path, gptq_tensors, gptq_config(), bits=4, group=128)
    model = load(tmp_path, WIDE, dtype=torch.float32, mode="int8")
    assert not [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert relative_error(logits(model), logits(full)) < 0.03


@pytest.mark.parametrize("bits", [4, 8])
def test_a_published_checkpoint_can_be_saved_as_ours(tmp_path, bits):
    write_checkpoint(tmp_path, gptq_tensors, gptq_config(bits), bits=bits, group=128, scattered=True)
    model = load(tmp_path, WIDE)
    save_quantized(model, tmp_path / "ours")
    assert torch.equal(logits(load(tmp_path / "ours", WIDE)), logits(model))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (gptq_config(bits=3), "bits 3; it must be one of"),
        (gptq_config(group=48.5), "group_size 48.5"),
        (gptq_config(checkpoint_format="marlin"), "checkpoint_format 'marlin'"),
        (gptq_config(surprise=1), "unknown quantization_config key 'surprise'"),
        (awq_config(version="gemv"), "version 'gemv'"),
        ({"quant_method": "fp8"}, "quant_method 'fp8'; clearsight, gptq, awq are supported"),
        ({"quant_method": "gptq", "bits": 4}, "key 'group_size' is missing"),
        ([], "must be an object"),
    ],
)
def test_other_settings_are_refused(tmp_path, config, message):
    write_checkpoint(tmp_path, gptq_tensors, config, bits=4, group=128)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, WIDE)


def test_packed_tensors_that_do_not_fit_are_refused(tmp_path):
    write_checkpoint(tmp_path, gptq_tensors, gptq_config(group=64), bits=4, group=128)
    with pytest.raises(WeightsError, match="do not fit: g_idx does not make groups of 64"):
        load(tmp_path, WIDE)
