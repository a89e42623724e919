"""Ours equals the reference library on the same weights and inputs."""

from __future__ import annotations

import pytest
import torch
from reference import TINY, make_inputs, reference_kwargs, reference_model, shallow

from clearsight.engine import Engine
from clearsight.inputs import Grid, SamplingParams
from clearsight.model.weights import random_model

LAYOUTS = {
    "text": [17],
    "picture": [5, Grid(1, 4, 6), 7],
    "pictures": [3, Grid(1, 8, 4), 2, Grid(1, 4, 4), Grid(1, 2, 14), 5],
    "frames": [4, Grid(3, 6, 8), 6],
    "mix": [2, Grid(1, 6, 4), 3, Grid(2, 4, 8), 1, Grid(1, 10, 10), 9],
}
SHAPES = {"tiny": TINY, "2b": shallow("2b")}


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module", params=SHAPES)
def pair(request):
    ours = random_model(SHAPES[request.param], seed=1, dtype=torch.float32)
    return ours, reference_model(ours)


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.inference_mode()
def test_logits_equal_the_reference(pair, layout):
    ours, theirs = pair
    inputs = make_inputs(ours.config, LAYOUTS[layout])
    expected = theirs(**reference_kwargs(ours.config, inputs)).logits[0]
    assert relative_error(ours.logits(ours(inputs)), expected) < 1e-4


@torch.inference_mode()
def test_vision_tower_alone_equals_the_reference(pair):
    ours, theirs = pair
    inputs = make_inputs(ours.config, [Grid(1, 8, 4), Grid(1, 4, 4), Grid(2, 4, 6)])
    grids = torch.tensor([list(grid) for grid in inputs.vision.grids])
    expected = theirs.model.visual(inputs.vision.pixels, grid_thw=grids).pooler_output
    assert relative_error(ours.encode_vision(inputs.vision), expected) < 1e-4


@pytest.mark.parametrize("layout", ["text", "picture", "mix"])
def test_greedy_generation_of_64_tokens_equals_the_reference(pair, layout):
    ours, theirs = pair
    inputs = make_inputs(ours.config, LAYOUTS[layout])
    engine = Engine(ours, stop_tokens=())
    params = SamplingParams(max_tokens=64, repetition_guard=False)
    made = [event.token for event in engine.generate(inputs, params)]
    expected = theirs.generate(
        **reference_kwargs(ours.config, inputs),
        max_new_tokens=64,
        min_new_tokens=64,
        do_sample=False,
        eos_token_id=None,
        suppress_tokens=list(ours.config.tokens.never_generated),
        pad_token_id=0,
    )[0, inputs.ids.shape[0] :]
    assert made == expected.tolist()


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_bf16_error_is_within_the_reference_own(shape):
    exact = random_model(SHAPES[shape], seed=1, dtype=torch.float32)
    half = random_model(SHAPES[shape], seed=1, dtype=torch.float32).to(torch.bfloat16)
    reference = reference_model(half)
    inputs = make_inputs(exact.config, LAYOUTS["mix"])
    truth = exact.logits(exact(inputs))
    ours = half.logits(half(inputs)).float()
    theirs = reference(**reference_kwargs(exact.config, inputs)).logits[0].float()
    assert (ours - truth).norm() <= 1.2 * (theirs - truth).norm()
