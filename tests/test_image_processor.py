"""The picture half of the processor equals the reference's PIL processor bit for bit (facts, 3 and 4.3)."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as reference_smart_resize

from clearsight.config import ConfigError
from clearsight.inputs import Grid
from clearsight.media import MediaError
from clearsight.messages import Limits
from clearsight.processor.image import (
    ImageSettings,
    VideoBudget,
    plan_image,
    plan_video,
    smart_resize,
    target_size,
    video_target_size,
)
from clearsight.processor.patches import image_patches, normalise, pair_patches, patchify, video_patches

FREE = Limits()
RELEASED = ImageSettings()


def photograph(height: int, width: int, seed: int = 0) -> Image.Image:
    """Gradients, a fractal's edges and sensor noise."""
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    rows, columns = np.mgrid[0:height, 0:width]
    slope = np.stack([rows / height, columns / width, (rows + columns) / (height + width)], axis=-1) * 160
    edges = np.asarray(Image.effect_mandelbrot((width, height), (-2, -1.3, 0.8, 1.3), 60), float)[..., None]
    return Image.fromarray(np.clip(slope + 0.4 * edges + noise, 0, 255).astype(np.uint8))


def reference_patches(image: Image.Image, own: ImageSettings) -> tuple[torch.Tensor, list[int]]:
    output = Qwen2VLImageProcessorPil.from_dict(own.to_json())(image, return_tensors="pt")
    return output["pixel_values"], output["image_grid_thw"][0].tolist()


def assert_equals_reference(image: Image.Image, own: ImageSettings) -> None:
    ours = image_patches(image, FREE, own)
    theirs, grid = reference_patches(image, own)
    assert list(ours.grids[0]) == grid
    assert ours.pixels.dtype == theirs.dtype == torch.float32
    assert torch.equal(ours.pixels, theirs)


# --- geometry ----------------------------------------------------------------------------------------------

TABLE = [
    ((224, 224), (224, 224), 64),
    ((448, 448), (448, 448), 256),
    ((480, 640), (476, 644), 391),
    ((1080, 1920), (1092, 1932), 2691),
    ((1365, 2048), (1372, 2044), 3577),
    ((2532, 1170), (2520, 1176), 3780),
    ((3000, 4000), (2996, 4004), 15301),
    ((6000, 8000), (3080, 4116), 16170),
    ((14400, 1792), (10136, 1260), 16290),
    ((28, 28), (56, 56), 4),
    ((14, 14), (56, 56), 4),
    ((10, 10), (56, 56), 4),
    ((20, 3000), (28, 2996), 107),
]
TABLE_WITH_LIMITS = [
    ((224, 224), Limits(min_pixels=256 * 784, max_pixels=1280 * 784), (448, 448), 256),
    ((1080, 1920), Limits(min_pixels=256 * 784, max_pixels=1280 * 784), (728, 1316), 1222),
    ((3000, 4000), Limits(max_pixels=1280 * 784), (840, 1148), 1230),
]


@pytest.mark.parametrize(
    ("original", "limits", "resized", "tokens"),
    [(original, FREE, resized, tokens) for original, resized, tokens in TABLE] + TABLE_WITH_LIMITS,
)
def test_sizes_and_tokens_of_the_published_table(
    original: tuple[int, int], limits: Limits, resized: tuple[int, int], tokens: int
) -> None:
    assert target_size(*original, limits, RELEASED) == resized
    grid = plan_image(*original, limits, RELEASED)
    assert grid == Grid(1, resized[0] // 14, resized[1] // 14)
    assert grid.tokens() == tokens


@settings(max_examples=1000)
@given(
    height=st.integers(1, 30_000),
    width=st.integers(1, 30_000),
    factor=st.sampled_from([28, 14, 32, 56]),
    low=st.integers(1, 2_000_000),
    extra=st.integers(0, 13_000_000),
)
def test_smart_resize_equals_the_reference(height: int, width: int, factor: int, low: int, extra: int) -> None:
    sides = {"factor": factor, "min_pixels": low, "max_pixels": low + extra}
    if max(height, width) / min(height, width) > 200:
        with pytest.raises(MediaError, match="the limit is 200"):
            smart_resize(height, width, **sides)
        return
    resized = smart_resize(height, width, **sides)
    assert resized == reference_smart_resize(height, width, **sides)
    assert min(resized) >= factor
    assert resized[0] % factor == resized[1] % factor == 0
    assert resized[0] * resized[1] <= low + extra or min(resized) == factor or resized[0] * resized[1] >= low


@given(side=st.integers(1, 60), ratio=st.integers(1, 200), cap=st.integers(3136, 40_000))
def test_thin_pictures_equal_the_reference(side: int, ratio: int, cap: int) -> None:
    for size in ((side, side * ratio), (side * ratio, side)):
        ours = smart_resize(*size, max_pixels=cap)
        assert ours == reference_smart_resize(*size, max_pixels=cap)
        assert min(ours) >= 28


def test_no_side_becomes_zero() -> None:
    assert smart_resize(31, 639, max_pixels=20 * 784) == (28, 560)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (10, 2001)])
def test_sizes_that_cannot_be_resized_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match=str(size[1])):
        smart_resize(*size)


@given(
    height=st.integers(20, 4000),
    width=st.integers(20, 4000),
    low=st.none() | st.integers(3136, 10**6),
    extra=st.none() | st.integers(0, 10**6),
)
def test_a_parts_own_limits_go_first(height: int, width: int, low: int | None, extra: int | None) -> None:
    high = None if extra is None else (low or 3136) + extra
    own = {key: value for key, value in (("min_pixels", low), ("max_pixels", high)) if value is not None}
    assert target_size(height, width, Limits(min_pixels=low, max_pixels=high), RELEASED) == reference_smart_resize(
        height, width, **{"max_pixels": RELEASED.max_pixels, **own}
    )


def test_a_default_gives_way_to_the_one_limit_that_was_set() -> None:
    small = ImageSettings(min_pixels=100 * 784, max_pixels=200 * 784)
    height, width = target_size(1000, 1000, Limits(max_pixels=50 * 784), small)
    assert height * width <= 50 * 784
    height, width = target_size(100, 100, Limits(min_pixels=300 * 784), small)
    assert height * width >= 250 * 784


@pytest.mark.parametrize(
    ("wish", "size"),
    [((280, 420), (280, 420)), ((300, 500), (308, 504)), ((42, 70), (56, 56)), ((280, 294), (280, 280))],
)
def test_a_fixed_size_is_rounded_to_the_factor(wish: tuple[int, int], size: tuple[int, int]) -> None:
    limits = Limits(resized_height=wish[0], resized_width=wish[1])
    assert target_size(999, 555, limits, RELEASED) == size
    assert video_target_size(10, 999, 555, limits, RELEASED) == size


@pytest.mark.parametrize(
    ("frames", "total", "size", "tokens"),
    [
        (20, 24576, (560, 1008), 7200),
        (64, 24576, (560, 1008), 23040),
        (120, 24576, (420, 728), 23400),
        (240, 24576, (280, 532), 22800),
        (366, 24576, (224, 420), 21960),
        (768, 24576, (224, 420), 46080),
        (64, 16384, (448, 840), 15360),
        (120, 16384, (336, 616), 15840),
        (240, 16384, (224, 420), 14400),
        (120, 115200, (560, 1008), 43200),
        (366, 115200, (504, 924), 108702),
        (768, 115200, (336, 644), 105984),
    ],
)
def test_frame_sizes_of_the_published_table(frames: int, total: int, size: tuple[int, int], tokens: int) -> None:
    budget = VideoBudget(total_pixels=total * 784)
    assert video_target_size(frames, 720, 1280, FREE, RELEASED, budget) == size
    assert plan_video(frames, 720, 1280, FREE, RELEASED, budget).tokens() == tokens


def test_a_lower_minimum_keeps_a_long_video_within_its_total() -> None:
    grid = plan_video(768, 720, 1280, Limits(min_pixels=16 * 784), RELEASED, VideoBudget(total_pixels=16384 * 784))
    assert (grid.h * 14, grid.w * 14, grid.tokens()) == (112, 224, 12_288)


@given(frames=st.integers(1, 800), height=st.integers(64, 2000), width=st.integers(64, 2000))
def test_a_small_model_lowers_the_frames(frames: int, height: int, width: int) -> None:
    small = ImageSettings(max_pixels=64 * 784)
    size = video_target_size(frames, height, width, FREE, small)
    assert size[0] * size[1] <= small.max_pixels or min(size) == small.factor


def test_a_video_part_may_lower_its_frames_below_the_default_minimum() -> None:
    for original in ((720, 1280), (150, 160)):
        height, width = video_target_size(8, *original, Limits(max_pixels=50 * 784), RELEASED)
        assert height * width <= 50 * 784


# --- pixels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [(480, 640), (10, 10), (1, 1), (10, 1900), (1900, 10), (28, 28), (57, 83), (1501, 1999), (3, 300)]
)
def test_patches_equal_the_reference(size: tuple[int, int]) -> None:
    assert_equals_reference(photograph(*size), RELEASED)


@settings(max_examples=40)
@given(
    height=st.integers(3, 400),
    width=st.integers(3, 400),
    low=st.sampled_from([784, 3136, 50_176]),
    high=st.sampled_from([50_176, 100_352, 12_845_056]),
    seed=st.integers(0, 9),
)
def test_patches_equal_the_reference_everywhere(height: int, width: int, low: int, high: int, seed: int) -> None:
    assert_equals_reference(photograph(height, width, seed), ImageSettings(min_pixels=low, max_pixels=high))


def test_other_shapes_and_colours_equal_the_reference() -> None:
    own = ImageSettings(patch_size=16, merge_size=1, mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 1.0))
    assert_equals_reference(photograph(100, 130), own)


def test_every_level_of_every_channel_equals_the_reference() -> None:
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 3))
    processor = Qwen2VLImageProcessorPil()
    channels_first = np.ascontiguousarray(levels.T)[:, :, None]
    wanted = processor.normalize(processor.rescale(channels_first, 1 / 255), RELEASED.mean, RELEASED.std)[:, :, 0].T
    assert np.array_equal(normalise(levels, RELEASED), wanted)


def test_patch_order_follows_the_formula() -> None:
    frames = np.random.default_rng(0).normal(size=(4, 3, 84, 56)).astype(np.float32)
    rows = patchify(frames, RELEASED)
    assert rows.shape == (2 * 6 * 4, 1176)
    wheel = random.Random(0)
    for _ in range(300):
        pair, cell_row, cell_column = wheel.randrange(2), wheel.randrange(3), wheel.randrange(2)
        i, j, s = wheel.randrange(2), wheel.randrange(2), wheel.randrange(2)
        c, y, x = wheel.randrange(3), wheel.randrange(14), wheel.randrange(14)
        row = (((pair * 3 + cell_row) * 2 + cell_column) * 2 + i) * 2 + j
        element = ((c * 2 + s) * 14 + y) * 14 + x
        assert (
            rows[row, element] == frames[2 * pair + s, c, 14 * (2 * cell_row + i) + y, 14 * (2 * cell_column + j) + x]
        )


@pytest.mark.parametrize("shape", [(1, 3, 28, 28), (2, 3, 27, 28), (2, 3, 28, 42)])
def test_frames_that_do_not_divide_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        patchify(np.zeros(shape, np.float32), RELEASED)


def test_a_video_of_one_picture_twice_is_that_picture() -> None:
    picture = photograph(280, 420)
    still = image_patches(picture, Limits(resized_height=280, resized_width=420), RELEASED)
    for clip in ([picture], [picture, picture]):
        video = video_patches(clip, Limits(resized_height=280, resized_width=420), RELEASED)
        assert video.grids == still.grids
        assert torch.equal(video.pixels, still.pixels)


def test_a_video_is_its_pairs_one_after_another() -> None:
    frames = [photograph(120, 160, seed) for seed in range(4)]
    whole = video_patches(frames, FREE, RELEASED)
    pairs = [video_patches(frames[start : start + 2], FREE, RELEASED) for start in (0, 2)]
    assert whole.grids == (Grid(2, *pairs[0].grids[0][1:]),)
    assert torch.equal(whole.pixels, torch.cat([pair.pixels for pair in pairs]))


def test_a_slot_of_arrays_is_that_pair_in_a_video() -> None:
    frames = [photograph(120, 160, seed) for seed in range(4)]
    whole = video_patches(frames, FREE, RELEASED)
    size = video_target_size(4, 120, 160, FREE, RELEASED)
    slots = [pair_patches([np.asarray(frame) for frame in frames[at : at + 2]], size, RELEASED) for at in (0, 2)]
    assert torch.equal(whole.pixels, torch.cat([slot.pixels for slot in slots]))
    with pytest.raises(ValueError, match="1 to 2 frames, not 3"):
        pair_patches(frames[:3], size, RELEASED)


def test_an_odd_clip_repeats_its_last_frame() -> None:
    frames = [photograph(120, 160, seed) for seed in range(3)]
    odd, even = (video_patches(clip, FREE, RELEASED) for clip in (frames, [*frames, frames[-1]]))
    assert odd.grids == even.grids == (plan_video(3, 120, 160, FREE, RELEASED),)
    assert torch.equal(odd.pixels, even.pixels)


def test_later_frames_take_the_size_of_the_first() -> None:
    clip = [photograph(120, 160), photograph(300, 200)]
    size = video_target_size(2, 120, 160, FREE, RELEASED)
    resized = [frame.resize(size[::-1], Image.Resampling.BICUBIC) for frame in clip]
    fixed = Limits(resized_height=size[0], resized_width=size[1])
    assert torch.equal(video_patches(clip, FREE, RELEASED).pixels, video_patches(resized, fixed, RELEASED).pixels)


def test_a_video_needs_frames() -> None:
    with pytest.raises(MediaError, match="no frames"):
        video_patches([], FREE, RELEASED)
    with pytest.raises(MediaError, match="no frames"):
        plan_video(0, 100, 100, FREE, RELEASED)


def test_pixels_other_than_rgb_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="mode L"):
        image_patches(Image.new("L", (56, 56)), FREE, RELEASED)


# --- settings ----------------------------------------------------------------------------------------------


def test_settings_survive_json_and_the_reference() -> None:
    own = ImageSettings(min_pixels=784, max_pixels=78_400, mean=(0.1, 0.2, 0.3))
    assert ImageSettings.from_json(json.loads(json.dumps(own.to_json()))) == own
    reference = Qwen2VLImageProcessorPil.from_dict(own.to_json())
    assert ImageSettings.from_json(json.loads(reference.to_json_string())) == own


def test_missing_limits_are_those_of_the_released_models() -> None:
    assert ImageSettings.from_json({}) == RELEASED
    assert RELEASED.max_pixels == 16_384 * RELEASED.factor**2


@pytest.mark.parametrize(
    "data",
    [
        {"min_pixels": 784, "max_pixels": 7840},
        {"size": {"shortest_edge": 784, "longest_edge": 7840}},
        {"size": {"min_pixels": 784, "max_pixels": 7840}},
        {"min_pixels": 784, "max_pixels": None, "size": {"shortest_edge": 1, "longest_edge": 7840}},
    ],
)
def test_both_forms_of_the_area_limits_are_read(data: dict[str, Any]) -> None:
    assert ImageSettings.from_json(data) == ImageSettings(min_pixels=784, max_pixels=7840)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"max_pixel": 5}, "max_pixel"),
        ({"size": {"height": 5}}, "size"),
        ({"size": 5}, "size"),
        ({"min_pixels": 10, "max_pixels": 5}, "min_pixels 10 is above max_pixels 5"),
        ({"min_pixels": 0}, "min_pixels"),
        ({"patch_size": "14"}, "patch_size"),
        ({"do_resize": False}, "do_resize"),
        ({"do_center_crop": True}, "do_center_crop"),
        ({"resample": 2}, "resample"),
        ({"rescale_factor": 1.0}, "rescale_factor"),
        ({"image_mean": [0.5]}, "mean"),
        ({"image_mean": 0.5}, "0.5"),
        ({"image_std": [1, 1, 0]}, "std"),
    ],
)
def test_settings_that_do_not_fit_are_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ImageSettings.from_json(data)
