"""Adapters: PEFT computes with ours what we compute, and we with PEFT's; what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference import TINY, make_inputs, reference_kwargs, reference_model
from safetensors.torch import load_file, save_file

from clearsight.config import ConfigError
from clearsight.inputs import Grid
from clearsight.model.lora import Adapter, LoraLayer, matched, merge, read_adapter, write_adapter
from clearsight.model.weights import WeightsError, random_model
from clearsight.train.grow import ENDS, grown

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing.*:FutureWarning"
)  # PEFT asks the library so
LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "visual.merger.mlp.2",
          "visual.blocks.1.attn.qkv")  # fmt: skip
INPUTS = make_inputs(TINY, [3, Grid(1, 4, 4), 5])


def random_adapter(model, scaling: float = 0.5, rank: int = 3) -> Adapter:
    generator = torch.Generator().manual_seed(1)
    layers = {}
    for name in LAYERS:
        weight = model.get_submodule(name).weight
        a = torch.randn(rank, weight.shape[1], generator=generator)
        b = torch.randn(weight.shape[0], rank, generator=generator)
        layers[name] = LoraLayer(a, b, scaling)
    return Adapter(layers, "some/base")


@torch.no_grad()
def our_logits(model):
    return model.logits(model(INPUTS))


def test_peft_loads_ours_and_computes_the_same(tmp_path: Path) -> None:
    from peft import PeftModel

    model = random_model(TINY, seed=3)
    adapter = random_adapter(model)
    write_adapter(adapter, tmp_path)
    theirs = PeftModel.from_pretrained(reference_model(model), tmp_path)
    expected = theirs(**reference_kwargs(TINY, INPUTS)).logits[0]
    before = our_logits(model)
    merge(model, adapter)
    torch.testing.assert_close(our_logits(model), expected.detach(), rtol=1e-4, atol=1e-4)
    assert (our_logits(model) - before).abs().max() > 0.1


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_we_load_pefts_and_compute_the_same(tmp_path: Path, rank_stabilised: bool) -> None:
    from peft import LoraConfig, get_peft_model

    model = random_model(TINY, seed=3)
    config = LoraConfig(
        r=4, lora_alpha=6, use_rslora=rank_stabilised, target_modules=["q_proj", "v_proj", "up_proj", "qkv"],
        rank_pattern={"up_proj": 2}, alpha_pattern={r"layers.1.self_attn.v_proj": 9}, init_lora_weights=False,
    )  # fmt: skip
    theirs = get_peft_model(reference_model(model), config).eval()
    theirs.save_pretrained(tmp_path)
    expected = theirs(**reference_kwargs(TINY, INPUTS)).logits[0]
    merge(model, read_adapter(tmp_path))
    torch.testing.assert_close(our_logits(model), expected.detach(), rtol=1e-4, atol=1e-4)


def test_written_and_read_back_is_the_same(tmp_path: Path) -> None:
    model = random_model(TINY)
    adapter = random_adapter(model)
    write_adapter(adapter, tmp_path)
    back = read_adapter(tmp_path)
    assert back.base == "some/base"
    assert back.layers.keys() == adapter.layers.keys() == matched(model, back).keys()
    for name, layer in adapter.layers.items():
        assert torch.equal(layer.a, back.layers[name].a)
        assert torch.equal(layer.b, back.layers[name].b)
        assert layer.scaling == back.layers[name].scaling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"bias": "all"}, "bias"),
        ({"r": 0}, "r is 0"),
        ({"invented": 1}, "invented"),
    ],
)
def test_settings_that_are_not_understood_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    write_adapter(random_adapter(random_model(TINY)), tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match=message):
        read_adapter(tmp_path)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = random_model(TINY)
    write_adapter(random_adapter(model), tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    prefix = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    half = tensors.pop(f"{prefix}.lora_B.weight")
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="only lora_A"):
        read_adapter(tmp_path)
    save_file({**tensors, f"{prefix}.lora_B.weight": half, f"{prefix}.lora_magnitude_vector": half + 1}, path)
    with pytest.raises(WeightsError, match="lora_magnitude_vector"):
        read_adapter(tmp_path)
    save_file(
        {
            name.replace("layers.0", "layers.7"): tensor
            for name, tensor in {**tensors, f"{prefix}.lora_B.weight": half}.items()
        },
        path,
    )
    with pytest.raises(WeightsError, match=r"model\.layers\.7\.self_attn\.q_proj"):
        merge(model, read_adapter(tmp_path))


def test_a_layer_of_another_shape_is_refused() -> None:
    model = random_model(TINY)
    wrong = Adapter({LAYERS[0]: LoraLayer(torch.ones(2, 5), torch.ones(32, 2), 1.0)})
    with pytest.raises(WeightsError, match=r"\(32, 5\)"):
        merge(model, wrong)


def test_an_adapter_moved_to_other_weights_makes_of_them_what_it_made_of_its_own(tmp_path, monkeypatch):
    """But for the layers to which it adds nothing, and the rounding of its halves to bfloat16."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    from move_adapter import moved

    old, new = random_model(TINY, seed=1), random_model(TINY, seed=2)
    adapter = random_adapter(old)
    idle = next(iter(adapter.layers))
    layer = adapter.layers[idle]
    adapter = Adapter({**adapter.layers, idle: LoraLayer(layer.a, torch.zeros_like(layer.b), layer.scaling)})
    kept = dict(new.named_modules())[idle].weight.clone()
    with torch.no_grad():
        carried = moved(adapter, old, new, rank=max(max(m.weight.shape) for m in matched(old, adapter).values()))
    write_adapter(carried, tmp_path)
    merge(old, adapter)
    merge(new, read_adapter(tmp_path))
    assert torch.equal(dict(new.named_modules())[idle].weight, kept)
    wanted, found = matched(old, adapter), matched(new, adapter)
    for name in adapter.layers.keys() - {idle}:
        ours, theirs = found[name].weight.detach(), wanted[name].weight.detach()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02 * theirs.abs().max().item())


@pytest.mark.parametrize("halves", [{"model.layers"}, {"visual.blocks"}, {"model.layers", "visual.blocks"}, set()])
def test_an_adapter_moved_to_a_grown_model_undoes_the_further_blocks_of_what_it_changes(halves, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "recipes")
    from move_adapter import moved

    old = random_model(TINY, seed=1)
    deeper = replace(
        TINY,
        vision=replace(TINY.vision, depth=TINY.vision.depth + 2),
        text=replace(TINY.text, num_layers=TINY.text.num_layers + 1),
    )
    new = grown(old, deeper, seed=2)
    ends = {
        name: layer
        for name, layer in new.named_modules()
        if name.endswith(ENDS) and name not in dict(old.named_modules())
    }
    assert len(ends) == 2 * 3
    with torch.no_grad():
        for layer in ends.values():
            layer.weight.normal_(std=0.1)
    whole = random_adapter(old)
    adapter = Adapter({n: d for n, d in whole.layers.items() if n.startswith(("visual.merger", *halves))})
    carried = moved(adapter, old, new, rank=max(max(layer.weight.shape) for layer in ends.values()))
    merge(new, carried)
    undone = {name for name in ends if name.startswith(tuple(halves))}
    assert carried.layers.keys() == adapter.layers.keys() | undone
    for name, layer in ends.items():
        assert (layer.weight.abs().max() < 2e-3) == (name in undone)
    if len(halves) == 2:
        merge(old, adapter)
        ours, theirs = our_logits(new), our_logits(old)
        assert (ours - theirs).norm() < 0.05 * theirs.norm()
