"""Number formats: what a machine is fast in, what is loaded by default, and Muon in float32."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clearsight import VLM
from clearsight.config import NANO
from clearsight.model import precision
from clearsight.model.precision import makes_tiles, product_dtype
from clearsight.model.vision import PatchEmbed
from clearsight.train.muon import Float32Muon, orthogonal

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["bfloat16", "emulated"])
def in_hardware(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both kinds of machine, whichever this one is."""
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: request.param)
    return bool(request.param)


def test_products_follow_the_machine_only_when_left_to_it(in_hardware: bool) -> None:
    assert product_dtype("auto", CPU) == (torch.bfloat16 if in_hardware else torch.float32)
    assert product_dtype("bfloat16", CPU) == torch.bfloat16
    assert product_dtype("float32", CPU) == torch.float32


def test_tiles_are_for_bfloat16_on_processors_that_announce_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for announced in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": announced})  # noqa: B023
        assert makes_tiles("bfloat16") is announced
        assert not makes_tiles("float32")


def test_full_weights_load_in_what_is_fast(in_hardware: bool) -> None:
    assert VLM.load("nano").engine.model.dtype == (torch.bfloat16 if in_hardware else torch.float32)
    assert VLM.load("nano", dtype=torch.bfloat16).engine.model.dtype == torch.bfloat16
    assert VLM.load("nano", quantize="int8").engine.model.dtype == torch.bfloat16


def test_patches_are_embedded_alike_on_both_kinds_of_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(NANO.vision).bfloat16()
    pixels = torch.randn(8, NANO.vision.patch_dim)
    found = []
    for fast in (True, False):
        monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda fast=fast: fast)
        found.append(embed(pixels))
    assert found[0].dtype == found[1].dtype == torch.bfloat16
    torch.testing.assert_close(*found, atol=0.03, rtol=0.02)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
@pytest.mark.parametrize("rule", ["match_rms_adamw", "original"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_in_float32_is_muon(shape: tuple[int, int], rule: str, nesterov: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    options = {"lr": 0.1, "weight_decay": 0.1, "adjust_lr_fn": rule, "nesterov": nesterov}
    rules = Float32Muon([ours], **options), torch.optim.Muon([theirs], **options)
    for _ in range(5):
        ours.grad = theirs.grad = torch.randn(shape)
        for optimizer in rules:
            optimizer.step()
    moved = (theirs - 1).norm()
    assert (ours - theirs).norm() < 0.02 * moved
    # A run goes on with the other rule's state.
    rules[0].load_state_dict(rules[1].state_dict())


def test_orthogonal_leaves_singular_vectors_and_evens_values() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(20, 50, dtype=torch.float64)
    found = orthogonal(matrix, (3.4445, -4.7750, 2.0315), 5)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ found @ right.T
    off = values - torch.diag(values.diagonal())
    assert off.abs().max() < 1e-9
    assert values.diagonal().min() > 0.5
    assert values.diagonal().max() < 1.3
