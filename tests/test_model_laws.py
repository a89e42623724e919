"""Laws of the model on tiny random weights: packed = alone, cached = uncached, fast = reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import needs_proc, peak_growth
from reference import TINY, make_inputs, tiny_model

from clearsight.config import PRESETS
from clearsight.engine.cache import KVPool, PagedStep
from clearsight.inputs import Grid, ModelInputs, VisionPatches
from clearsight.kernels.attention import attention_reference, cached_attention, packed_attention
from clearsight.model.rope import patch_coordinates
from clearsight.model.weights import empty_model

CLOSE = {"rtol": 1e-4, "atol": 1e-5}

grids = st.builds(lambda t, h, w: Grid(t, 2 * h, 2 * w), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
layouts = st.lists(st.one_of(st.integers(1, 9), grids), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@settings(max_examples=25)
@given(layouts=st.lists(layouts, min_size=1, max_size=4), seed=st.integers(0, 2**31))
@torch.inference_mode()
def test_packed_equals_alone(model, layouts, seed):
    items = [make_inputs(TINY, layout, seed + number) for number, layout in enumerate(layouts)]
    alone = torch.cat([model(item) for item in items])
    torch.testing.assert_close(model(ModelInputs.pack(items)), alone, **CLOSE)


@settings(max_examples=25)
@given(grid_list=st.lists(grids, min_size=2, max_size=4))
@torch.inference_mode()
def test_pictures_encoded_together_equal_each_alone(model, grid_list):
    together = make_inputs(TINY, grid_list).vision
    rows = together.pixels.split([grid.patches for grid in grid_list])
    each = [model.encode_vision(VisionPatches(row, (grid,))) for row, grid in zip(rows, grid_list, strict=True)]
    torch.testing.assert_close(model.encode_vision(together), torch.cat(each), **CLOSE)


@torch.inference_mode()
def test_swapped_pictures_give_other_answers(model):
    inputs = make_inputs(TINY, [2, Grid(1, 4, 4), 2, Grid(1, 4, 4), 3])
    rows = inputs.vision.pixels
    swapped = VisionPatches(torch.cat([rows[16:], rows[:16]]), inputs.vision.grids)
    other = ModelInputs(inputs.ids, inputs.positions, inputs.lengths, swapped, inputs.vision_starts)
    assert not torch.allclose(model(inputs)[-1], model(other)[-1], **CLOSE)


@torch.inference_mode()
def test_a_video_never_mixes_frames_beyond_the_pair(model):
    inputs = make_inputs(TINY, [Grid(3, 4, 4)]).vision
    changed = inputs.pixels.clone()
    changed[16:32] += 1.0
    before, after = (model.encode_vision(VisionPatches(p, inputs.grids)) for p in (inputs.pixels, changed))
    assert torch.equal(before[:4], after[:4])
    assert torch.equal(before[8:], after[8:])
    assert not torch.allclose(before[4:8], after[4:8])


@settings(max_examples=15)
@given(layout=layouts, made=st.integers(1, 6), seed=st.integers(0, 2**31))
@torch.inference_mode()
def test_cached_equals_uncached(model, layout, made, seed):
    inputs = make_inputs(TINY, layout, seed)
    continuation = torch.randint(0, 100, (made,), generator=torch.Generator().manual_seed(seed))
    first = inputs.next_position
    new_positions = torch.arange(first, first + made).expand(3, made)
    whole = ModelInputs(
        torch.cat([inputs.ids, continuation]),
        torch.cat([inputs.positions, new_positions], dim=1),
        (inputs.ids.shape[0] + made,),
        inputs.vision,
        inputs.vision_starts,
    )
    expected = model.logits(model(whole))[-made - 1 :]
    size = 4
    pool = KVPool(TINY.text, 40, size, model.device, model.dtype)
    blocks = torch.randperm(40, generator=torch.Generator().manual_seed(seed)).int()

    def forward(x_TD, positions, context):
        step = PagedStep(pool, [blocks[: -(-context // size)]], [x_TD.shape[0]], [context])
        return model.logits(model.model(x_TD, positions, step)[-1:])[0]

    length = inputs.ids.shape[0]
    scores = [forward(model.embed(inputs), inputs.positions, length)]
    for index in range(made):
        x_TD = model.model.embed_tokens(continuation[index : index + 1])
        scores.append(forward(x_TD, new_positions[:, index : index + 1], length + index + 1))
    torch.testing.assert_close(torch.stack(scores), expected, **CLOSE)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2)]),
    channels=st.sampled_from([8, 80]),
    causal=st.booleans(),
    training=st.booleans(),
)
def test_packed_attention_equals_its_reference(lengths, heads, channels, causal, training):
    torch.manual_seed(sum(lengths))
    q, k, v = (torch.randn(sum(lengths), h, channels, requires_grad=training) for h in (heads[0], heads[1], heads[1]))
    expected = attention_reference(q, k, v, lengths, causal)
    torch.testing.assert_close(packed_attention(q, k, v, lengths, causal), expected, **CLOSE)


@pytest.mark.parametrize("new", [1, 3, 12])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
def test_cached_attention_equals_the_last_rows_of_the_whole(new, heads):
    q, k, v = (torch.randn(12, h, 16) for h in (heads[0], heads[1], heads[1]))
    expected = attention_reference(q, k, v, (12,), causal=True)[-new:]
    torch.testing.assert_close(cached_attention(q[-new:], k, v), expected, **CLOSE)


def test_patch_coordinates_follow_the_merged_cell_order():
    expected = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    expected += [(2, 0), (2, 1), (3, 0), (3, 1), (2, 2), (2, 3), (3, 2), (3, 3)]
    coordinates = patch_coordinates(Grid(1, 4, 4), 2, torch.device("cpu"))
    assert [tuple(pair) for pair in coordinates.tolist()] == expected


@needs_proc
def test_a_large_page_allocates_no_square_mask():
    """20,480 patches: a square of them would take 420 MB even at one byte each."""
    before = """
import torch
from clearsight.config import VisionConfig
from clearsight.inputs import Grid, VisionPatches
from clearsight.model.vision import VisionTower
tower = VisionTower(VisionConfig(depth=1, embed_dim=32, num_heads=2, out_dim=32))
patches = VisionPatches(torch.zeros(20_480, 1176), (Grid(1, 128, 160),))
"""
    measured = """
with torch.inference_mode():
    assert tower(patches).shape == (5120, 32)
"""
    assert peak_growth(before, measured) < 200 * 2**20


@pytest.mark.parametrize(
    ("name", "vision", "total", "tensors"),
    [
        ("2b", 665_271_296, 2_208_985_600, 729),
        ("7b", 675_759_104, 8_291_375_616, 730),
        ("72b", 699_356_672, 73_405_560_320, 1354),
    ],
)
def test_parameter_counts_of_the_released_sizes(name, vision, total, tensors):
    model = empty_model(PRESETS[name])
    assert sum(p.numel() for p in model.visual.parameters()) == vision
    assert sum(p.numel() for p in model.parameters()) == total
    assert len(list(model.parameters())) == tensors


def test_gradients_reach_every_parameter():
    model = tiny_model().train()
    inputs = make_inputs(TINY, [3, Grid(1, 4, 4), 4])
    model.logits(model(inputs)).float().square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key bias moves every score of a query alike, which the softmax cannot see.
    assert not [name for name in silent if not name.endswith("k_proj.bias")]
