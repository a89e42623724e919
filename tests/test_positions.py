"""M-RoPE positions: the worked examples, the reference library, and the rule's own laws (facts, 6)."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

from clearsight.inputs import Grid
from clearsight.processor.positions import mrope_positions

Layout = list[int | Grid]
"""Texts as their lengths, media as their grids."""


def positions(layout: Layout) -> torch.Tensor:
    runs, length = [], 0
    for item in layout:
        if isinstance(item, Grid):
            runs.append((length, item))
            length += item.tokens()
        else:
            length += item
    return mrope_positions(length, runs)


def rows(layout: Layout) -> list[tuple[int, ...]]:
    return [tuple(column) for column in positions(layout).T.tolist()]


def text(*ids: int) -> list[tuple[int, int, int]]:
    return [(i, i, i) for i in ids]


def box(t: range, h: range, w: range) -> list[tuple[int, int, int]]:
    return list(itertools.product(t, h, w))


WORKED = {
    "A": ([2, Grid(1, 4, 6), 3], text(0, 1) + box(range(2, 3), range(2, 4), range(2, 5)) + text(5, 6, 7), -3),
    "B": ([Grid(3, 4, 4), 5], box(range(3), range(2), range(2)) + text(3, 4, 5, 6, 7), -9),
    "C": ([Grid(3, 6, 8), 3], box(range(3), range(3), range(4)) + text(4, 5, 6), -32),
    "D": (
        [3, Grid(1, 4, 4), 2, Grid(1, 2, 8), 2],
        text(0, 1, 2)
        + box(range(3, 4), range(3, 5), range(3, 5))
        + text(5, 6)
        + box(range(7, 8), range(7, 8), range(7, 11))
        + text(11, 12),
        -2,
    ),
    "E": ([1, Grid(10, 4, 4), 2], text(0) + box(range(1, 11), range(1, 3), range(1, 3)) + text(11, 12), -30),
}


@pytest.mark.parametrize("name", WORKED)
def test_worked_examples(name: str) -> None:
    layout, expected, delta = WORKED[name]
    found = rows(layout)
    assert found == expected
    assert max(map(max, found)) + 1 - len(found) == delta


grids = st.builds(lambda t, h, w: Grid(t, 2 * h, 2 * w), *[st.integers(1, 6)] * 3)
images = st.builds(lambda h, w: Grid(1, 2 * h, 2 * w), *[st.integers(1, 6)] * 2)
# Where the reference library omits t from the step, only clips no longer than they are wide agree (facts, 6.2).
short_clips = grids.filter(lambda grid: grid.t <= max(grid.h, grid.w) // 2)
texts = st.integers(1, 5)


def layouts(media: st.SearchStrategy[Grid]) -> st.SearchStrategy[Layout]:
    """Media always between texts, as vision start and end stand around them."""
    pairs = st.lists(st.tuples(texts, media), max_size=4)
    return st.builds(lambda head, last: [item for pair in head for item in pair] + [last], pairs, texts)


@pytest.fixture(scope="module")
def reference() -> Qwen2VLModel:
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": 8,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
        },
        vision_config={"depth": 1, "embed_dim": 16, "num_heads": 1, "hidden_size": 16},
    )
    return Qwen2VLModel(config)


@given(layout=layouts(st.one_of(images, short_clips)))
def test_equals_reference_library(reference: Qwen2VLModel, layout: Layout) -> None:
    kinds: list[int] = []
    for item in layout:
        kinds += [1 if item.t == 1 else 2] * item.tokens() if isinstance(item, Grid) else [0] * item
    media = [item for item in layout if isinstance(item, Grid)]
    pictures = [grid for grid in media if grid.t == 1]
    clips = [grid for grid in media if grid.t > 1]
    expected, delta = reference.get_rope_index(
        input_ids=torch.zeros(1, len(kinds), dtype=torch.long),
        mm_token_type_ids=torch.tensor([kinds], dtype=torch.int),
        image_grid_thw=torch.tensor(pictures) if pictures else None,
        video_grid_thw=torch.tensor(clips) if clips else None,
        attention_mask=torch.ones(1, len(kinds), dtype=torch.long),
    )
    found = positions(layout)
    assert torch.equal(found, expected[:, 0])
    assert int(found.max()) + 1 - len(kinds) == int(delta)


@given(layout=layouts(grids))
def test_every_span_starts_one_above_all_before(layout: Layout) -> None:
    found, index, next_position = positions(layout), 0, 0
    for item in layout:
        length = item.tokens() if isinstance(item, Grid) else item
        span = found[:, index : index + length]
        assert span[:, 0].tolist() == [next_position] * 3
        assert int(span.min()) == next_position
        extent = max(item.t, item.h // 2, item.w // 2) if isinstance(item, Grid) else item
        assert int(span.max()) == next_position + extent - 1
        index, next_position = index + length, next_position + extent
    assert index == found.shape[1]


@given(length=st.integers(0, 50))
def test_text_alone_counts_up(length: int) -> None:
    assert torch.equal(positions([length]), torch.arange(length).expand(3, length))


@given(grid=grids, head=texts)
def test_rows_of_a_grid_are_distinct_and_in_reading_order(grid: Grid, head: int) -> None:
    found = rows([head, grid])[head:]
    assert found == sorted(set(found))


def test_wider_merge() -> None:
    assert mrope_positions(5, [(1, Grid(1, 6, 6))], merge_size=3).T.tolist()[1:] == [
        [1, 1, 1],
        [1, 1, 2],
        [1, 2, 1],
        [1, 2, 2],
    ]


@pytest.mark.parametrize("runs", [[(3, Grid(1, 4, 4))], [(0, Grid(1, 4, 4)), (3, Grid(1, 2, 2))]])
def test_runs_that_do_not_fit_are_refused(runs: list[tuple[int, Grid]]) -> None:
    with pytest.raises(ValueError, match="vision run"):
        mrope_positions(5, runs)
