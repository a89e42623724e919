"""Messages to inputs: the worked prompt, count = prepare, limits before pixels, packing, and the reference library."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from transformers import Qwen2VLImageProcessorPil

from clearsight.config import NANO, PRESETS, ConfigError
from clearsight.inputs import Grid, ModelInputs
from clearsight.media import MediaError
from clearsight.processor.image import ImageSettings
from clearsight.processor.positions import mrope_positions
from clearsight.processor.processor import MediaUse, Processor, PromptTooLong
from clearsight.processor.tokenizer import Tokenizer

QWEN2 = Processor.packaged("2b")
SMALL = Processor.packaged("nano")


def picture(width: int, height: int, seed: int = 0) -> Pil.Image:
    noise = numpy.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
    return Pil.fromarray(noise)


def ask(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Pil.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_worked_prompt() -> None:
    """A 224 x 224 picture and one sentence: 89 tokens (facts, 7.1)."""
    prepared = QWEN2.prepare(ask({"type": "image", "image": picture(224, 224)}, "Describe this image."))
    inputs = prepared.inputs
    head = [151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198, 151644, 872, 198, 151652]
    tail = [151653, 74785, 419, 2168, 13, 151645, 198, 151644, 77091, 198]
    assert inputs.ids.tolist() == [*head, *[151655] * 64, *tail]
    assert inputs.ids.dtype == inputs.positions.dtype == torch.int64
    assert inputs.vision_starts == (15,)
    assert inputs.vision is not None
    assert inputs.vision.pixels.shape == (256, 1176)
    assert inputs.next_position == 15 + 8 + 10
    assert not prepared.supervised.any()
    (use,) = prepared.media
    assert use == MediaUse("image", use.name, (224, 224), (224, 224), Grid(1, 16, 16), 64, None)


sides = st.integers(1, 150)
pictures = st.builds(picture, sides, sides).map(lambda image: {"type": "image", "image": image})
clips = st.builds(
    lambda width, height, n: [picture(width, height, i) for i in range(n)], sides, sides, st.integers(1, 5)
)
videos = clips.map(lambda frames: {"type": "video", "video": frames})
limited = st.builds(lambda part, limit: {**part, "max_pixels": limit * 784}, pictures | videos, st.integers(4, 16))
parts = st.lists(pictures | videos | limited | st.text(max_size=10), max_size=4)
turns = st.builds(
    lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "assistant"]), parts
)
conversations = st.lists(turns, min_size=1, max_size=3)


@settings(max_examples=30)
@given(messages=conversations, vision_id=st.booleans(), prompt=st.booleans())
def test_count_equals_prepare_and_everything_fits(messages: list[Any], vision_id: bool, prompt: bool) -> None:
    prepared = QWEN2.prepare(messages, add_vision_id=vision_id, add_generation_prompt=prompt)
    count = QWEN2.count(messages, add_vision_id=vision_id, add_generation_prompt=prompt)
    inputs = prepared.inputs
    assert count.media == prepared.media
    assert count.tokens == len(inputs.ids) == len(prepared.supervised)
    grids = tuple(use.grid for use in prepared.media)
    assert (inputs.vision.grids if inputs.vision else ()) == grids
    for use in prepared.media:
        assert use.tokens == use.grid.tokens()
        assert use.size == (use.grid.w * 14, use.grid.h * 14)
        assert use.grid.t == (1 if use.frames is None else (use.frames + 1) // 2)
    runs = list(zip(inputs.vision_starts, grids, strict=True))
    assert torch.equal(inputs.positions, mrope_positions(count.tokens, runs))
    pads = torch.isin(inputs.ids, torch.tensor([QWEN2.config.tokens.image_pad, QWEN2.config.tokens.video_pad]))
    covered = torch.zeros_like(pads)
    for start, grid in runs:
        covered[start : start + grid.tokens()] = True
    assert torch.equal(pads, covered)


@settings(max_examples=10)
@given(conversation=st.lists(conversations, min_size=1, max_size=3))
def test_packing_restarts_positions(conversation: list[list[Any]]) -> None:
    items = [QWEN2.prepare(messages).inputs for messages in conversation]
    packed = ModelInputs.pack(items)
    assert packed.lengths == tuple(len(item.ids) for item in items)
    for item, ids, positions in zip(
        items, packed.ids.split(packed.lengths), packed.positions.split(packed.lengths, dim=1), strict=True
    ):
        assert torch.equal(ids, item.ids)
        assert torch.equal(positions, item.positions)
        assert positions[:, 0].tolist() == [0, 0, 0]
    grids = [grid for item in items if item.vision for grid in item.vision.grids]
    assert list(packed.vision.grids if packed.vision else ()) == grids
    pads = {QWEN2.config.tokens.image_pad, QWEN2.config.tokens.video_pad}
    for start, grid in zip(packed.vision_starts, grids, strict=True):
        run = packed.ids[start : start + grid.tokens()].tolist()
        assert set(run) <= pads
        assert packed.ids[start - 1] == QWEN2.config.tokens.vision_start
        assert packed.ids[start + len(run)] == QWEN2.config.tokens.vision_end


def test_equals_reference_library() -> None:
    """Pixels and grids of the reference, in the places our ids name."""
    reference = Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=12_845_056)
    images = [picture(320, 240, 1), picture(100, 333, 2)]
    inputs = QWEN2.prepare(ask(*({"image": image} for image in images))).inputs
    expected = reference(images, return_tensors="pt")
    assert inputs.vision is not None
    assert [list(grid) for grid in inputs.vision.grids] == expected["image_grid_thw"].tolist()
    assert (inputs.vision.pixels - expected["pixel_values"]).abs().max() < 1e-5


def test_counting_reads_only_headers() -> None:
    whole = png(1920, 1080)
    count = QWEN2.count(ask({"type": "image", "image": whole[:100]}, "What is this?"))
    assert count == QWEN2.count(ask({"type": "image", "image": whole}, "What is this?"))
    (use,) = count.media
    assert (use.original_size, use.size, use.tokens) == ((1920, 1080), (1932, 1092), 2691)


def test_too_long_is_refused_before_pixels_are_decoded() -> None:
    broken = png(4000, 3000)[:100]
    messages = ask(*[{"type": "image", "image": broken}] * 3, "What is this?")
    tokens = QWEN2.count(messages).tokens
    limit = QWEN2.config.text.max_positions
    with pytest.raises(
        PromptTooLong, match=f"the prompt has {tokens} tokens; the limit of prompt and answer is {limit}"
    ):
        QWEN2.prepare(messages)
    with pytest.raises(MediaError, match="cannot be decoded"):
        QWEN2.prepare(ask({"type": "image", "image": broken}))


def test_same_picture_from_any_source(tmp_path: Path) -> None:
    data = png(60, 90)
    (tmp_path / "a.png").write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    sources = [data, str(tmp_path / "a.png"), (tmp_path / "a.png").as_uri(), url, Pil.open(io.BytesIO(data))]
    found = [SMALL.prepare(ask({"image": source})).inputs for source in sources]
    pixels = [inputs.vision.pixels for inputs in found if inputs.vision]
    assert len(pixels) == len(sources)
    assert all(torch.equal(inputs.ids, found[0].ids) for inputs in found)
    assert all(torch.equal(other, pixels[0]) for other in pixels)


@pytest.mark.parametrize("processor", [QWEN2, SMALL], ids=["qwen2", "nano"])
def test_caption(processor: Processor) -> None:
    tokens = processor.config.tokens
    inputs, supervised = processor.caption_inputs(picture(56, 84), "a cat <|im_end|>")
    text = processor.tokenizer.encode("a cat <|im_end|>")
    expected = [tokens.vision_start, *[tokens.image_pad] * 6, tokens.vision_end, *text, tokens.end_of_text]
    assert inputs.ids.tolist() == expected
    assert inputs.vision_starts == (1,)
    assert torch.equal(inputs.positions, mrope_positions(len(expected), [(1, Grid(1, 6, 4))]))
    assert inputs.ids[supervised].tolist() == [*text, tokens.end_of_text]


def test_supervised_follows_the_roles() -> None:
    messages = [*ask({"image": picture(56, 56)}, "What?"), {"role": "assistant", "content": "noise"}]
    prepared = SMALL.prepare(messages, add_generation_prompt=False)
    assert prepared.supervised.dtype == torch.bool
    learned = prepared.inputs.ids[prepared.supervised].tolist()
    assert SMALL.tokenizer.decode(learned, skip_special=False) == "noise<|im_end|>\n"


def test_saved_folder_prepares_the_same(tmp_path: Path) -> None:
    SMALL.save(tmp_path)
    loaded = Processor.from_folder(tmp_path, NANO)
    assert loaded.image_settings == SMALL.image_settings
    messages = ask({"image": picture(70, 50)}, "What is this?")
    ours, theirs = SMALL.prepare(messages).inputs, loaded.prepare(messages).inputs
    assert torch.equal(ours.ids, theirs.ids)
    assert ours.vision is not None
    assert theirs.vision is not None
    assert torch.equal(ours.vision.pixels, theirs.vision.pixels)


def test_settings_as_newer_writers_nest_them(tmp_path: Path) -> None:
    SMALL.tokenizer.save(tmp_path)
    with pytest.raises(ConfigError, match="holds neither"):
        Processor.from_folder(tmp_path, NANO)
    theirs = Qwen2VLImageProcessorPil(min_pixels=784, max_pixels=78_400)
    nested = {"image_processor": json.loads(theirs.to_json_string()), "processor_class": "Qwen2VLProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested), encoding="utf-8")
    settings = Processor.from_folder(tmp_path, NANO).image_settings
    assert (settings.min_pixels, settings.max_pixels) == (784, 78_400)


def test_packaged_settings_are_the_published_ones() -> None:
    assert QWEN2.image_settings == ImageSettings()
    assert all(Processor.packaged(name).config == config for name, config in PRESETS.items())


def test_a_large_picture_leaves_room_in_the_small_model() -> None:
    count = SMALL.count(ask({"image": png(4000, 3000)}, "What is this?"))
    assert count.tokens < NANO.text.max_positions / 4


def test_parts_of_another_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="special tokens"):
        Processor(Tokenizer.packaged("qwen2"), NANO, ImageSettings())
    with pytest.raises(ConfigError, match="patch_size 16; the model has 14"):
        Processor(Tokenizer.packaged("nano"), NANO, ImageSettings(patch_size=16))


def test_many_pictures_prepared_side_by_side_equal_each_alone_and_the_reference() -> None:
    """Preparation runs on several threads; order and every bit stay."""
    pictures = [picture(60 + 28 * (n % 5), 90 + 17 * (n % 7), seed=n) for n in range(24)]
    together = QWEN2.prepare(ask(*({"type": "image", "image": each} for each in pictures), "?")).inputs.vision
    assert together is not None
    reference = Qwen2VLImageProcessorPil.from_dict(QWEN2.image_settings.to_json())
    theirs = reference(pictures, return_tensors="pt")
    assert [list(grid) for grid in together.grids] == theirs["image_grid_thw"].tolist()
    assert torch.equal(together.pixels, theirs["pixel_values"])
    with pytest.raises(MediaError):
        QWEN2.prepare(ask({"type": "image", "image": pictures[0]}, {"type": "image", "image": png(30, 30)[:60]}))
